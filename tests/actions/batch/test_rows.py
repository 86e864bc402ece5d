from __future__ import annotations

import io
import json

import pytest

from musicgen_cli.actions.batch.rows import read_rows
from musicgen_cli.actions.batch.sweep import Sweep
from musicgen_cli.audio.wav import pcm16_wav
from musicgen_cli.errors import InvalidValueError, UsageError
from musicgen_cli.limits import ROW_BYTES


def rows(data: bytes, form: str | None = None, *, name: str = "") -> list[tuple[int, object]]:
    """Read rows; a bad row becomes the message of its error."""
    numbered = read_rows(io.BytesIO(data), form, name=name)
    return [(line, str(row) if isinstance(row, Exception) else row) for line, row in numbered]


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["", "BOM"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b"", b'{"prompt": "a", "seed": 1}', b" ", b"{}"], [(2, {"prompt": "a", "seed": 1}), (4, {})]),
        ([b"prompt,seed", b"a,1", b"", b'"b, c",'], [(2, {"prompt": "a", "seed": 1}), (4, {"prompt": "b, c"})]),
        ([b"Prompt;do_sample", b"a, b;TRUE"], [(2, {"prompt": "a, b", "do_sample": True})]),
        ([b"seed\tprompt", b"1\ta"], [(2, {"seed": 1, "prompt": "a"})]),
        ([b"prompt", b"a"], [(2, {"prompt": "a"})]),
        ([b"", b" calm, sad ", b"", b"[verse] x"], [(2, {"prompt": "calm, sad"}), (4, {"prompt": "[verse] x"})]),
        ([b"tense, seed of doubt", b"prompt"], [(1, {"prompt": "tense, seed of doubt"}), (2, {"prompt": "prompt"})]),
    ],
)  # fmt: skip
def test_the_form_follows_from_the_first_line(
    bom: bytes, end: bytes, lines: list[bytes], expected: list[object]
) -> None:
    """The first that isn't blank; with or without BOM, CR and a line feed at the end."""
    assert rows(bom + end.join(lines)) == expected
    assert rows(bom + end.join(lines) + end) == expected


def test_the_form_can_be_given() -> None:
    """A prompt can look like a row of another form."""
    assert rows(b"{x}\n", "text") == [(1, {"prompt": "{x}"})]
    assert rows(b"prompt,seed\n", "text") == [(1, {"prompt": "prompt,seed"})]
    assert rows(b"tags\n'a'\n", "csv") == [(2, {"tags": "'a'"})]


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("x.csv", b"sep=;\nprompt;duration\na;1\n", [(3, {"prompt": "a", "duration": 1})]),
        ("x", b"SEP=\t\r\nprompt\tseed\r\na, b\t1\r\n", [(3, {"prompt": "a, b", "seed": 1})]),
        ("x.CSV", b"\xef\xbb\xbfsep=^\nprompt^seed\na^1\n", [(3, {"prompt": "a", "seed": 1})]),
        ("x", b"prompt|seed\na|1\n", [(2, {"prompt": "a", "seed": 1})]),
        ("x.csv", b"# made by hand\n\nseed\n1\n", [(4, {"seed": 1})]),
        ("x.tsv", b"output\na.wav\n", [(2, {"output": "a.wav"})]),
        ("x.jsonl", b"# cues\n// of level 1\n{}\n  # of level 2\n", [(3, {})]),
        ("x.jsonl", b"loose text\n{}\n", [(1, "it is not one whole JSON object: expected value at column 1"), (2, {})]),
        ("prompts.txt", b"# slow\na\n\n  # fast\nb #1\n", [(2, {"prompt": "a"}), (5, {"prompt": "b #1"})]),
        ("x", b"# cues\nprompt,seed\na,1\n", [(3, {"prompt": "a", "seed": 1})]),
        ("x", b'# cues\n{"seed": 1}\n', [(2, {"seed": 1})]),
        ("prompts.txt", b"# nothing yet\n", []),
    ],
)
def test_what_a_file_says_about_itself_counts_more_than_a_guess(name: str, data: bytes, expected: list[object]) -> None:
    """Its ending, Excel's line `sep=`, and comments."""
    assert rows(data, name=name) == expected


@pytest.mark.parametrize(
    "data",
    [
        pcm16_wav(bytes(2000), sample_rate=32_000, channels=1),
        pcm16_wav(b"\n" * 2000, sample_rate=0x0A0A0A0A, channels=2),
        b"fLaC\0\0\0\x22\x10\0\x10\0",
        b"ID3\4\0\0\0\0\0#TSSE",
        b"PK\3\4\x14\0\6\0[Content_Types].xml",
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    ],
)
def test_a_file_that_is_not_text_is_one_error(data: bytes) -> None:
    """Whatever its ending; its lines are not reported one by one."""
    for name in ("x.wav", "x.csv", "x"):
        with pytest.raises(UsageError, match=f"^'{name}' is not text$"):
            rows(data, name=name)


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        (b"text,length\na,1\n", "line 1, the header, split at ',': there is no known field", "the fields are prompt,"),
        (b"text;length\na;1\n", "line 1, the header, split at ';': there is no known field", "--input-format text"),
        (b"prompt;song\na;1\n", "line 1, the header, split at ';': unknown field 'song', the known ones are", None),
        (b"name,prompt\nx,a\n", "line 1, the header, split at ',': unknown field 'name', the known ones are", None),
    ],
)  # fmt: skip
def test_a_hint_names_no_field_that_is_unlike_the_wrong_one(data: bytes, message: str, hint: str | None) -> None:
    """All fields are listed instead, and the separator is named."""
    with pytest.raises(UsageError) as failed:
        rows(data, name="x.csv")
    assert str(failed.value).startswith(message)
    assert hint is None or hint in str(failed.value.hint)


def test_a_csv_is_read_as_spreadsheets_write_it() -> None:
    """With rows of separators alone, decimal commas beside semicolons, and words for true and false."""
    assert rows(b"prompt,seed\na,1\n,\n \n,2\n", name="x.csv") == [
        (2, {"prompt": "a", "seed": 1}),
        (5, {"seed": 2}),
    ]
    assert rows(b"prompt;duration\n1,5;1,5\n", name="x.csv") == [(2, {"prompt": "1,5", "duration": 1.5})]
    assert rows(b'prompt,duration\na,"1,5"\n', name="x.csv") == [(2, {"prompt": "a", "duration": "1,5"})]
    for word, value in (("TRUE", True), ("yes", True), ("1", True), ("Off", False), ("0", False), ("maybe", "maybe")):
        assert rows(f"prompt,loop,do_sample\na,{word},{word}\n".encode()) == [
            (2, {"prompt": "a", "loop": value, "do_sample": value})
        ]


@pytest.mark.parametrize(
    ("name", "data", "message", "hint"),
    [
        ("x.jsonl", b'{"prompt": "a",\n "seed": 1}\n{}\n', "an object goes over several lines", "jq -c . FILE"),
        ("x", b"{\n}\n", "an object goes over several lines", "jq -c . FILE"),
        ("x.yaml", b"- a\n- b\n", "'x.yaml' has the ending '.yaml', which is no format of rows", "--input-format"),
        ("list.MD", b"* a\n", "'list.MD' has the ending '.md'", "rows are JSON Lines"),
    ],
)
def test_a_file_in_another_form_is_one_error(name: str, data: bytes, message: str, hint: str) -> None:
    """Not one for each line, and no takes called like its syntax."""
    with pytest.raises(UsageError) as failed:
        rows(data, name=name)
    assert str(failed.value).startswith(message)
    assert hint in str(failed.value.hint)


def test_a_csv_cell_can_have_several_lines() -> None:
    """The line number of the next row counts them."""
    assert rows(b'prompt,seed\n"a\nb ""c""",1\nd,2\n') == [
        (2, {"prompt": 'a\nb "c"', "seed": 1}),
        (4, {"prompt": "d", "seed": 2}),
    ]


def test_only_numbers_and_booleans_of_a_csv_are_converted() -> None:
    """Anything else stays text, for the check of the row to refuse."""
    ((_, row),) = rows(b"prompt,duration,top_k,do_sample,seed,creator,tags\n17,2,x,false,nan,1,a b\n")
    assert row == {
        "prompt": "17", "duration": 2, "top_k": "x", "do_sample": False, "seed": "nan", "creator": "1", "tags": "a b",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a"\n{"prompt":"b"}\n', "it is not one whole JSON object: "),
        (b'{}\n[1]\n{"prompt":"b"}', "it is not a JSON object"),
        (b'{}\n{"seed":NaN}\n{"prompt":"b"}', "it is not one whole JSON object: "),
        (b'{}\n{"prompt":"\xff"}\n{"prompt":"b"}', "it is not UTF-8"),
        (b'{}\n{"prompt":"' + b"x" * 1_000_000 + b'"}\n{"prompt":"b"}', "it is longer than 256 KiB"),
        (b'{}\n{"prompt":"\x00"}\n{"prompt":"b"}', "it is not one whole JSON object: "),
        (b"{}\n" + b'{"a":' * 5000 + b'\n{"prompt":"b"}', "it is not one whole JSON object: "),
        (b"prompt,seed\na,1,2\nb,\n", "it has 3 cells, the header 2"),
        (b"prompt,seed\n\xff,1\nb,\n", "it is not UTF-8"),
        (b'prompt,seed\n"a"b,1\nb,\n', "it is not CSV: "),
        (b"prompt,seed\n" + b"x" * 1_000_000 + b"\nb,\n", "it is longer than 256 KiB"),
        (b"prompt,seed\n" + b"x" * 200_000 + b"\nb,\n", "it is not CSV: field larger than field limit"),
        (b"a\n\xff\nb", "it is not UTF-8"),
        (b"a\n" + b"x" * 1_000_000 + b"\nb", "it is longer than 256 KiB"),
    ],
)
def test_a_bad_line_does_not_affect_the_others(data: bytes, expected: str) -> None:
    """The row after it is read."""
    numbered = rows(data)
    (bad,) = [(line, row) for line, row in numbered if isinstance(row, str)]

    assert bad[0] == (1 if data.startswith(b'{"a"\n') else 2)
    assert bad[1].startswith(expected)
    assert numbered[-1] == (bad[0] + 1, {"prompt": "b"})


def test_a_quote_without_an_end_is_an_error() -> None:
    """It is reported for the line where it began."""
    assert rows(b'prompt,seed\na,1\n"b,2\nc,3\n') == [
        (2, {"prompt": "a", "seed": 1}),
        (3, "it is not CSV: unexpected end of data"),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"promt,seed\n", "line 1, the header, split at ',': unknown field 'promt', the nearest known one is 'prompt'"),
        (b"seed,prompt,seed\n", "line 1, the header, split at ',': seed appears twice"),
        (b"[\n{}]\n", "the rows are one JSON array"),
        (b'[{"prompt": "x"}]\n', "the rows are one JSON array"),
        ("\ufeffx\n".encode("utf-16-le"), "the rows are UTF-16"),
    ],
)
def test_a_fault_of_the_whole_file_is_one_error(data: bytes, message: str) -> None:
    """It is not repeated for each row."""
    with pytest.raises(UsageError) as failed:
        rows(data)
    assert str(failed.value).startswith(message)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf", b" \r\n"])
def test_an_empty_file_has_no_rows(data: bytes) -> None:
    """Blank lines are not rows."""
    assert rows(data) == []


def test_the_longest_allowed_line_is_a_row() -> None:
    """A line of one byte more is an error."""
    for more, kind in ((0, dict), (1, str)):
        text = json.dumps({"prompt": ""})
        line = text[:-2] + "x" * (ROW_BYTES - 1 - len(text) + more) + text[-2:]
        ((_, row),) = rows(line.encode() + b"\n")
        assert isinstance(row, kind)


def test_a_sweep_is_every_combination() -> None:
    """The last field changes first; a range has both its ends; numbers are as a request has them."""
    sweep = Sweep(["guidance-scale=3, 5", "seed=1..3"])

    assert sweep.size == 6
    assert [(each["guidance_scale"], each["seed"]) for each in map(sweep.__getitem__, range(6))] == [
        (3.0, 1), (3.0, 2), (3.0, 3), (5.0, 1), (5.0, 2), (5.0, 3),
    ]  # fmt: skip
    assert [Sweep(["duration=1..2"])[i] for i in (0, 1)] == [{"duration": 1.0}, {"duration": 2.0}]
    assert Sweep().size == 1
    assert Sweep()[0] == {}
    assert Sweep(["seed=0..9007199254740991"]).size == 2**53


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["seed"], "a sweep must be like"),
        (["seed="], "a sweep must be like"),
        (["sed=1"], "'sed' can't be swept, the nearest known one is 'seed'"),
        (["prompt=a,b"], "'prompt' can't be swept"),
        (["seed=1", "seed=2"], "seed is swept twice"),
        (["seed=4..1"], "a sweep's range goes up"),
        (["temperature=0.5..1.0"], "a range in a sweep must be of whole numbers like 1..4, got temperature=0.5..1.0"),
        (["seed=1-3"], "a range in a sweep must be of whole numbers like 1..4, got seed=1-3"),
        (["seed=1,,2"], "seed must be a whole number"),
        (["seed=-1..2"], "seed must be a whole number, 0-9007199254740991, got -1"),
        (["guidance_scale=3,16"], "guidance_scale must be 1-15, got 16"),
        (["top_k=1.5"], "top_k must be a whole number"),
        (["do_sample=maybe"], "do_sample must be true or false"),
        (["seed=null"], "seed must have a value"),
    ],
)
def test_a_wrong_sweep_is_refused(texts: list[str], message: str) -> None:
    """Before any row is read."""
    with pytest.raises(UsageError) as failed:
        Sweep(texts)
    assert str(failed.value).startswith(message)
    assert isinstance(failed.value, InvalidValueError) or "swe" in str(failed.value)
