from django.db import migrations

from fetcher.migrations import _headers


def forward(apps, schema_editor):
    _headers.type_options(apps.get_model("jobs", "Job"))


def backward(apps, schema_editor):
    _headers.untype_options(apps.get_model("jobs", "Job"))


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0003_clock_skew"),
    ]

    operations = [
        migrations.RunPython(forward, backward),
    ]
