"""Spreadsheets, written here part by part."""

import zipfile

import pytest
from tables import check_stream

from modiste.config import DataConfig
from modiste.data.formats.excel import read_sheet
from modiste.data.manifest import Manifest
from modiste.data.tables import read_table
from modiste.errors import ManifestError


def workbook(path, sheets):
    """A small .xlsx as Excel writes it: inline strings, one part a sheet."""
    cells = lambda row: "".join(  # noqa: E731
        f'<c t="inlineStr"><is><t>{one}</t></is></c>' if isinstance(one, str) else f"<c><v>{one}</v></c>" for one in row
    )
    xml = '<?xml version="1.0" encoding="UTF-8"?>'
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    with zipfile.ZipFile(path, "w") as out:
        names = "".join(f'<sheet name="{name}" sheetId="{k}" r:id="r{k}"/>' for k, name in enumerate(sheets, 1))
        out.writestr(
            "xl/workbook.xml", f'{xml}<workbook xmlns="{main}" xmlns:r="{office}"><sheets>{names}</sheets></workbook>'
        )
        links = "".join(
            f'<Relationship Id="r{k}" Type="{office}/worksheet" Target="worksheets/sheet{k}.xml"/>'
            for k in range(1, len(sheets) + 1)
        )
        out.writestr(
            "xl/_rels/workbook.xml.rels", f'{xml}<Relationships xmlns="{package}/relationships">{links}</Relationships>'
        )
        root = f'<Relationship Id="r1" Type="{office}/officeDocument" Target="xl/workbook.xml"/>'
        out.writestr("_rels/.rels", f'{xml}<Relationships xmlns="{package}/relationships">{root}</Relationships>')
        out.writestr(
            "[Content_Types].xml",
            f'{xml}<Types xmlns="{package}/content-types">'
            '<Default Extension="xml" ContentType="application/xml"/></Types>',
        )
        for k, rows in enumerate(sheets.values(), 1):
            data = "".join(f"<row>{cells(row)}</row>" for row in rows)
            out.writestr(
                f"xl/worksheets/sheet{k}.xml",
                f'{xml}<worksheet xmlns="{main}"><sheetData>{data}</sheetData></worksheet>',
            )
    return path


ROWS = [["image", "kind", "sold"], ["a.jpg", "dress", 1], ["b.jpg", "coat", 0]]


def test_spreadsheets(tmp_path):
    path = workbook(tmp_path / "a.xlsx", {"Photos": ROWS, "Empty": []})
    table = read_table(path)
    assert table.frame.rows() == [("a.jpg", "dress", "1"), ("b.jpg", "coat", "0")]
    assert table.row(1) == "row 3"
    check_stream(path)


def test_a_spreadsheet_with_several_sheets_asks_which(tmp_path):
    path = workbook(tmp_path / "a.xlsx", {"Old": ROWS[:2], "New": ROWS})
    with pytest.raises(ManifestError, match=r"got 'Old', 'New'. Try --sheet 'Old'"):
        read_table(path)
    assert len(Manifest.read(path, DataConfig(sheet="New", label_columns=("kind",)))) == 2
    with pytest.raises(ManifestError, match=r"sheet 'Newest' .*only 'Old', 'New'"):
        read_sheet(path, "Newest")
