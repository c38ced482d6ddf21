"""JSON of crawlers, jq, PowerShell and Trawl itself, and plain lists of lines."""

from __future__ import annotations

from tests.fetcher.sources.shapes.shape import A, B, Shape

ARRAY = b'[\n{"url": "https://example.org/a"},\n{"url": "https://example.org/b"}\n]'
KNOWN = "there are url, method, headers, body, label, retry"
UNKNOWN = "{}: records have fields that are not known"
EXTRA = UNKNOWN + "; jq -c '{{url}}' keeps the URL alone (jq -c '.[] | {{url}}' in an array)"
RESULT = (
    b'{"id":1025,"run":1,"position":1,"url":"https://example.org/a","final_url":"https://example.org/c","method":"GET",'
    b'"host":"example.org:443","label":"One","status":"succeeded","http_status":200,"error_kind":null,'
    b'"error_detail":null,"attempts":1,"started_at":"2026-03-01T12:00:00.000Z",'
    b'"finished_at":"2026-03-01T12:00:00.100Z","elapsed_ms":100.0,"bytes":5,"content_type":"text/html",'
    b'"body_sha256":"00","body_url":"/api/v1/bodies/00/","changed":null,"extracted":{"url":["x"]}}'
)
IN_ITEMS = "has its list inside an object, under 'items'; pass the list: jq '.items' does"
TRIMMED = "{}: removed no-break spaces or invisible characters around the URL"
COMMA = "1: the comma is read as a part of the URL; if a label follows it, add a first line url,label"

RECORDS = [
    Shape("Scrapy, -o items.json", "items.json", ARRAY, (A, B)),
    Shape("Scrapy, -o items.jl", "items.jl", ARRAY.strip(b"[]\n").replace(b",\n", b"\n"), (A, B)),
    Shape("Scrapy, -o items.jsonl by name an array", "items.jsonl", ARRAY, (A, B)),
    Shape("Scrapy, -o items.json written twice", "items.json", ARRAY + ARRAY, (A, B, A, B)),
    Shape("Scrapy, FEED_EXPORT_INDENT=4", "items.json",
          b'[\n{\n    "url": "https://example.org/a",\n    "label": "One"\n},\n{\n    "url": "https://example.org/b"\n}\n]',
          ((A, "One"), B)),
    Shape("Scrapy, killed before the end", "items.json", ARRAY[:-2] + b",\n", (A, B),
          refused="its JSON array has no end (line 4); the file is cut off", mended=ARRAY),
    Shape("Scrapy, items with more fields", "items.json",
          b'[\n{"url": "https://example.org/a", "title": "One"}\n]', (A,), noted=(EXTRA.format(2),),
          rejected=(f"2: title: is no known field; {KNOWN}",), mended=b'{"url":"https://example.org/a"}\n'),
    Shape("Scrapy, CSV feed", "items.csv", b"title,url\r\nOne,https://example.org/a\r\n", (A,)),
    Shape("jq ., objects", "list.json",
          b'{\n  "url": "https://example.org/a",\n  "label": 7\n}\n{\n  "url": "https://example.org/b"\n}\n',
          ((A, "7"), B)),
    Shape("jq ., an array of strings", "list.json",
          b'[\n  "https://example.org/a",\n  "https://example.org/b"\n]\n', (A, B)),
    Shape("jq -c ., an array", "list.json", b'["https://example.org/a","https://example.org/b"]\n', (A, B)),
    Shape("jq '.[].url'", "list.txt", b'"https://example.org/a"\n"https://example.org/b"\n', (A, B)),
    Shape("jq -r '.[].url'", "list", b"https://example.org/a\nhttps://example.org/b\n", (A, B)),
    Shape("jq --tab .", "list.json", b'{\n\t"url": "https://example.org/a"\n}\n', (A,)),
    Shape("JavaScript, the inside of an array", "list.txt",
          b'"https://example.org/a",\n"https://example.org/b",\n', (A, B)),
    Shape("PowerShell 5.1, ConvertTo-Json > file", "list.json",
          '[\r\n    {\r\n        "url":  "https://example.org/a",\r\n        "label":  "One"\r\n    }\r\n]\r\n'
          .encode("utf-16"),
          ((A, "One"),)),
    Shape("PowerShell 7, ConvertTo-Json | Set-Content", "list.json",
          b'{\r\n  "url": "https://example.org/a",\r\n  "label": "One"\r\n}\r\n', ((A, "One"),)),
    Shape("Trawl, --output ndjson", "results.ndjson", RESULT + b"\n", ((A, "One"),)),
    Shape("Trawl, export_run by another name", "results.txt", RESULT + b"\n", ((A, "One"),)),
    Shape("Trawl, the result of a POST", "results.ndjson", RESULT.replace(b'"GET"', b'"POST"') + b"\n",
          rejected=("1: method: a result does not hold the body of its POST; --retry-failed fetches with it",)),
    Shape("Trawl, --output json", "results.json",
          b'{"run": {"id":1}, "summary": {}, "items": [\n' + RESULT + b"\n]}\n", ((A, "One"),), refused=IN_ITEMS,
          mended=b"[\n  " + RESULT.replace(b",", b",\n  ") + b"\n]\n"),
    Shape("An API's page", "page.json", b'{"items":[{"url":"https://example.org/a"}],"next":null}\n', (A,),
          refused=IN_ITEMS, mended=b'[\n  {\n    "url": "https://example.org/a"\n  }\n]\n'),
    Shape("Excel's cells pasted into JSON", "list.jsonl", '{"url":"\xa0https://example.org/a\u200b"}\n'.encode(), (A,),
          (TRIMMED.format(1),)),
    Shape("Two JSON files with byte order marks joined", "list.jsonl",
          '\ufeff{"url":"https://example.org/a"}\n\ufeff{"url":"https://example.org/b"}\n'.encode(), (A, B)),
    Shape("PowerShell, Out-File", "urls.txt",
          "https://example.org/a\r\nhttps://example.org/b\r\n".encode("utf-16"), (A, B)),
    Shape("PowerShell 5.1, Set-Content -Encoding UTF8", "urls.txt", b"\xef\xbb\xbfhttps://example.org/a\r\n", (A,)),
    Shape("Notepad, UTF-16 BE", "urls.txt", b"\xfe\xff" + "https://example.org/a\r\n".encode("utf-16-be"), (A,)),
    Shape("copy a.txt+b.txt, a byte order mark in the middle", "urls.txt",
          "\ufeffhttps://example.org/a\r\n\ufeffhttps://example.org/b\r\n".encode(), (A, B), (TRIMMED.format(2),)),
    Shape("Word and Teams, no-break and zero-width spaces", "urls.txt",
          "https://example.org/a\xa0\r\n\u200bhttps://example.org/b\r\n\xa0\r\n".encode(), (A, B),
          (TRIMMED.format(1),)),
    Shape("A list with one line that may be a row", "urls.txt", b"https://example.org/a,7\nhttps://example.org/b\n",
          ("https://example.org/a,7", B), (COMMA,)),
    Shape("A newspaper's URLs with commas", "urls.txt",
          b"https://example.org/7,114884,28,x.html\nhttps://example.org/7,114884,29,y.html\n",
          ("https://example.org/7,114884,28,x.html", "https://example.org/7,114884,29,y.html")),
]  # fmt: skip
