from django.db import migrations, models

from fetcher.migrations import _headers

OVER = ("completed", "cancelled", "failed")


def forward(apps, schema_editor):
    _headers.type_targets(apps.get_model("fetcher", "Target"))
    _headers.type_options(apps.get_model("fetcher", "Run"), over=OVER)


def backward(apps, schema_editor):
    _headers.untype_targets(apps.get_model("fetcher", "Target"))
    _headers.untype_options(apps.get_model("fetcher", "Run"))


class Migration(migrations.Migration):
    dependencies = [
        ("fetcher", "0004_trouble"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="target",
            index=models.Index(condition=models.Q(("body__isnull", False)), fields=["id"], name="fetcher_target_body"),
        ),
        migrations.RunPython(forward, backward),
    ]
