"""Tables of spreadsheets, mail programs, shops and shells."""

from __future__ import annotations

from tests.fetcher.sources.shapes.shape import A, B, Shape

BOM = b"\xef\xbb\xbf"
PLAIN = b"url,label\r\nhttps://example.org/a,One\r\nhttps://example.org/b,Two\r\n"
SHORT = "3: the row has fewer cells than the header row; missing cells are read as empty"
TRIMMED = "2: removed no-break spaces or invisible characters around the URL"
NO_HEADER = (
    "has no header row; its first row must name the columns, one of them url (--format lines reads each line as a URL)"
)
ONE_TWO = ((A, "One"), (B, "Two"))
RESULT_COLUMNS = (
    b"id,run,position,url,final_url,method,host,label,status,http_status,error_kind,error_detail,attempts,started_at,"
    b"finished_at,elapsed_ms,bytes,content_type,body_sha256,body_url,changed,extracted\r\n"
)

TABLES = [
    Shape("Excel, CSV UTF-8", "Book1.csv", BOM + PLAIN, ONE_TWO),
    Shape("Excel, CSV (comma delimited)", "Book1.csv", PLAIN, ONE_TWO),
    Shape("Excel in German, CSV UTF-8", "Mappe1.csv",
          "\ufeffurl;label\r\nhttps://example.org/a;Größe\r\n".encode(), ((A, "Größe"),)),
    Shape("Excel, CSV (comma delimited), Windows-1252", "Book1.csv",
          "url,label\r\nhttps://example.org/a,Größe\r\n".encode("cp1252"), ((A, "Größe"),),
          noted=("2: the file is not UTF-8; save it again as UTF-8 (in Excel: CSV UTF-8)",),
          rejected=("2: label: is not valid UTF-8",),
          mended="\ufeffurl,label\r\nhttps://example.org/a,Größe\r\n".encode()),
    Shape("Excel, Unicode Text", "Book1.txt",
          "url\tlabel\r\nhttps://example.org/a\tGröße\r\n".encode("utf-16"), ((A, "Größe"),)),
    Shape("Excel, Text (tab delimited)", "Book1.txt", PLAIN.replace(b",", b"\t"), ONE_TWO),
    Shape("Excel, CSV saved as .txt", "Book1.txt", PLAIN, ONE_TWO),
    Shape("Excel, sep= line", "Book1.csv", b"sep=;\r\n" + PLAIN.replace(b",", b";"), ONE_TWO),
    Shape("Excel, sep= line saved as .txt", "Book1.txt", b"sep=;\r\n" + PLAIN.replace(b",", b";"), ONE_TWO),
    Shape("Excel, emptied rows and columns", "Book1.csv",
          b"url,label,,\r\nhttps://example.org/a,One,,\r\n,,,\r\nhttps://example.org/b,Two,,\r\n,,,\r\n", ONE_TWO),
    Shape("Excel, rows short of empty cells at their end", "Book1.csv",
          b"url,label,method,body\r\nhttps://example.org/a,One,,\r\nhttps://example.org/b,Two\r\n", ONE_TWO, (SHORT,)),
    Shape("Excel, rows longer by empty cells", "Book1.csv",
          b"url,label\r\nhttps://example.org/a,One,,\r\nhttps://example.org/b,Two,\r\n", ONE_TWO),
    Shape("Excel, CSV (Macintosh)", "Book1.csv", PLAIN.replace(b"\r\n", b"\r"), ONE_TWO,
          refused="has a carriage return inside its header row; lines must end with LF or CRLF", mended=PLAIN),
    Shape("Excel, workbook", "Book1.xlsx", b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0", ONE_TWO,
          refused="is a ZIP archive or a spreadsheet; unpack it, or save it as CSV", mended=BOM + PLAIN),
    Shape("Excel 97, workbook", "Book1.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(24), ONE_TWO,
          refused="is a spreadsheet or another office document; save it as CSV", mended=PLAIN),
    Shape("Excel, cells pasted from a web page", "Book1.csv",
          "url,label\r\n\xa0https://example.org/a\xa0,One\r\n\u200bhttps://example.org/b,Two\r\n".encode(), ONE_TWO,
          (TRIMMED,)),
    Shape("LibreOffice Calc, quoted text cells", "Untitled.csv",
          b'"url","label"\n"https://example.org/a","One"\n"https://example.org/b","Two"\n', ONE_TWO),
    Shape("LibreOffice Calc, UTF-16 and semicolons", "Untitled.csv",
          PLAIN.decode().replace(",", ";").replace("\r", "").encode("utf-16"), ONE_TWO),
    Shape("LibreOffice Calc, spreadsheet", "Untitled.ods", b"PK\x03\x04\x14\0\0\x08\0\0", ONE_TWO,
          refused="is a ZIP archive or a spreadsheet; unpack it, or save it as CSV", mended=PLAIN),
    Shape("Google Sheets, CSV without a last line end", "List - Sheet1.csv", PLAIN.rstrip(), ONE_TWO),
    Shape("Google Sheets, TSV", "List - Sheet1.tsv", PLAIN.replace(b",", b"\t").rstrip(), ONE_TWO),
    Shape("Google Sheets, URLs without a header row", "List - Sheet1.csv",
          b"https://example.org/a\r\nhttps://example.org/b", (A, B), refused=NO_HEADER,
          mended=b"https://example.org/a\r\nhttps://example.org/b", mended_format="lines"),
    Shape("Google Sheets, two columns without a header row", "List - Sheet1.csv", PLAIN.partition(b"\r\n")[2], ONE_TWO,
          refused=NO_HEADER, mended=PLAIN),
    Shape("Google Sheets, such columns saved as .txt", "list.txt", PLAIN.partition(b"\r\n")[2], ONE_TWO,
          refused=NO_HEADER, mended=PLAIN),
    Shape("Google Search Console, Pages.csv", "Pages.csv",
          b"Top pages,Clicks,CTR\nhttps://example.org/a,5,1.2%\nhttps://example.org/b,3,0.5%\n", (A, B),
          refused="has no column url (found: top pages, clicks, ctr); call the column with the URLs url",
          mended=b"url,Clicks,CTR\nhttps://example.org/a,5,1.2%\nhttps://example.org/b,3,0.5%\n"),
    Shape("Screaming Frog, internal_html.csv piped in as .txt", "internal.txt",
          BOM + b'"Address","Status Code"\n"https://example.org/a","200"\n"https://example.org/b","301"\n', (A, B),
          refused="has no column url (found: address, status code); call the column with the URLs url",
          mended=BOM + b'"url","Status Code"\n"https://example.org/a","200"\n"https://example.org/b","301"\n'),
    Shape("Outlook, exported contacts", "contacts.csv",
          b'"First Name","Last Name","Web Page","Notes"\r\n"Ann","Lee","https://example.org/a"\r\n', (A,),
          refused="has no column url (found: first name, last name, web page, notes); "
                  "call the column with the URLs url",
          mended=b'"First Name","Last Name","url","Notes"\r\n"Ann","Lee","https://example.org/a","x"\r\n'),
    Shape("Outlook, exported contacts, column renamed", "contacts.csv",
          b'"Label","Last Name","URL","Notes"\r\n"One","Lee","https://example.org/a","x"\r\n'
          b'"Two","","https://example.org/b"\r\n', ONE_TWO, (SHORT,)),
    Shape("PowerShell 5.1, Export-Csv", "list.csv",
          b'#TYPE System.Management.Automation.PSCustomObject\r\n"url","label"\r\n"https://example.org/a","One"\r\n',
          ((A, "One"),)),
    Shape("PowerShell 5.1, Export-Csv to .txt", "list.txt",
          b'#TYPE Selected.System.String\r\n"label","url"\r\n"One","https://example.org/a"\r\n', ((A, "One"),)),
    Shape("PowerShell 7, Export-Csv", "list.csv", b'"url","label"\r\n"https://example.org/a","One"\r\n', ((A, "One"),)),
    Shape("PowerShell, Export-Csv -UseCulture -Encoding Unicode", "list.csv",
          '"url";"label"\r\n"https://example.org/a";"One"\r\n'.encode("utf-16"), ((A, "One"),)),
    Shape("PowerShell, ConvertTo-Csv | Out-File", "list.out",
          '"url","label"\r\n"https://example.org/a","One"\r\n'.encode("utf-16"), ((A, "One"),)),
    Shape("Shopify, exported products", "products_export.csv",
          b'Handle,Title,"Body (HTML)",URL\na,One,"<p>A, b</p>\n<p>c</p>",https://example.org/a\n', (A,)),
    Shape("Airtable, notes over several lines", "Grid view.csv",
          BOM + b'Label,URL,Notes\r\nOne,https://example.org/a,"first\nsecond"\r\nTwo,https://example.org/b,\r\n',
          ONE_TWO),
    Shape("Pocket, exported saves", "part_000000.csv",
          b"title,url,time_added,tags,status\nOne,https://example.org/a,1700000000,,unread\n", (A,)),
    Shape("mysql --batch", "list.txt", b"url\tlabel\nhttps://example.org/a\tOne\n", ((A, "One"),)),
    Shape("Trawl, export_run --format csv", "results.csv",
          RESULT_COLUMNS + b"1,1,1,https://example.org/a,https://example.org/c,GET,example.org:443,One,succeeded,200,,,1,"
          b"2026-03-01T12:00:00.000Z,2026-03-01T12:00:00.100Z,100.0,5,text/html,00,,,\r\n", ((A, "One"),)),
    Shape("Trawl, the result of a POST in export_run's CSV", "results.csv",
          RESULT_COLUMNS + b"1,1,1,https://example.org/a,https://example.org/a,POST,example.org:443,,succeeded,200,,,1,"
          b"2026-03-01T12:00:00.000Z,2026-03-01T12:00:00.100Z,100.0,5,text/html,00,,,\r\n",
          rejected=("2: method: a result does not hold the body of its POST; --retry-failed fetches with it",)),
]  # fmt: skip
