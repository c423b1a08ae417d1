"""YAML as data and nothing else, with the line of every value."""

import time

import pytest

from bench.ask import document
from bench.errors import SuiteError


def problems_of(text):
    try:
        found = document.parse(text, "s.yaml").problems
    except SuiteError as error:
        found = error.problems
    assert found
    return sorted(found)


def file_problem(path):
    with pytest.raises(SuiteError) as caught:
        document.read(path)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1e4", 10_000),
        ("1.0e4", 10_000.0),
        ("1E+2", 100),
        (".5", 0.5),
        ("-7", -7),
        ("007", 7),
        ("999999999999999999", 999_999_999_999_999_999),
        ("-999999999999999999", -999_999_999_999_999_999),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("'1'", "1"),
        ("{<<: {b: 1}}", {"<<": {"b": 1}}),
    ],
)
def test_words_and_numbers_are_those_of_yaml_1_2(text, value):
    found = document.parse(f"a: {text}").data["a"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_words_whatever_they_look_like():
    assert document.parse("1: a\ntrue: b\n~: c\nno: d").data == {"1": "a", "true": "b", "~": "c", "no": "d"}


def test_every_value_has_its_line():
    read = document.parse("# a comment\na:\n  - 1\n\n  - b: {c: 2,\n         d: 3}\ne: 4\n")
    lines = {(): 2, ("a",): 2, ("a", 0): 3, ("a", 1): 5, ("a", 1, "b", "c"): 5, ("a", 1, "b", "d"): 6, ("e",): 7}
    assert {path: read.line(path) for path in lines} == lines


def test_what_is_not_in_the_file_has_the_line_of_what_holds_it():
    read = document.parse("a:\n  b:\n    c: 1\n")
    assert read.line(("a", "b", "c", "d", 0)) == 3
    assert read.line(("x", "y")) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("workloads", 0, "search"), "workloads[0].search"),
        (("model", "torchvision:resnet18"), "model.torchvision:resnet18"),
        (("a b", "", 1), "'a b'.''[1]"),
    ],
)
def test_a_path_is_written_as_one_would_say_it(path, text):
    assert document.dotted(path) == text


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3", 5, "given twice, first on line 3; give it once"),
        ("a: &x 1", 1, "found the anchor '&x'; write values out"),
        ("a: 1\nb: *x", 2, "found the alias '*x'; write the value out"),
        ("a: !!python/object:os.system x", 1, "python/object:os.system'; a suite is plain data"),
        ("a: 1\nb: !!str x", 2, "found the tag 'tag:yaml.org,2002:str'"),
        ("a: 1\nb: .nan", 2, "found .nan; every number in a suite is finite"),
        ("a: [1,\n  -.inf]", 2, "found -.inf; every number in a suite is finite"),
        ("a: 1e999", 1, "found 1e999; every number in a suite is finite"),
        ("a: 1000000000000000000", 1, "a whole number in a suite has at most 18 digits"),
        ("a: " + "9" * 300, 1, "...; a whole number in a suite has at most 18 digits"),
        ("a: " + "9" * 10_000, 1, "...; every number in a suite is finite"),
        ("a: 1\nb: \a", 2, "found the control character U+0007; a suite is plain text"),
        ("a: \0", 1, "found the control character U+0000"),
        ("a: \ud800", 1, "found the control character U+D800"),
        ("a: 1\n---\nb: 2", 2, "found a second document, begun by '---'; a suite is one"),
        ("? [1]\n: 2", 1, "found a list or mapping as a key; a key is a word"),
        ("a: b: c", 1, "not YAML: mapping values are not allowed here; text that holds ': ' needs quotes"),
        ("a:\n\tb: 1", 2, "that cannot start any token; indent with spaces"),
        ("a: [1,\nb: 2\nc: 3", 3, "not YAML: while parsing a flow sequence begun on line 1: expected ',' or ']'"),
        ("a: 'b\n\nc", 3, "not YAML: while scanning a quoted scalar begun on line 1: found unexpected end"),
        ("a: @b", 1, "not YAML: found character '@'"),
    ],
)
def test_what_is_not_plain_data_is_refused_with_its_line(text, line, part):
    found = [problem for problem in problems_of(text) if part in problem.message]
    assert [problem.line for problem in found] == [line]


def test_everything_that_is_not_plain_data_is_named_at_once():
    assert [problem.line for problem in problems_of("a: &x 1\nb: !t 2\nc: *x")] == [1, 2, 3]
    assert [problem.line for problem in problems_of("a: .nan\na: 2\nb: .inf\n? {}\n: 1")] == [1, 2, 3, 4]


@pytest.mark.parametrize("fill", ["[{}]", "{{a: {}}}"])
def test_fifty_levels_are_read_and_one_more_is_refused(fill):
    text = "x"
    for _ in range(50):
        text = fill.format(text)
    document.parse(text)
    (problem,) = problems_of(fill.format(text))
    assert "nested deeper than 50" in problem.message


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "? " * 100_000, "[[],[" * 50_000])
def test_very_deep_nesting_is_refused_at_once(text):
    began = time.process_time()
    (problem,) = problems_of(text)
    assert "nested deeper than 50" in problem.message
    assert time.process_time() - began < 5


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a comment\n", "---\n...\n", "\ufeff"])
def test_an_empty_file_holds_nothing(tmp_path, text):
    file = tmp_path / "s.yaml"
    file.write_text(text, encoding="utf-8")
    assert document.read(file).data is None


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_byte_order_mark_and_any_newline_are_read(tmp_path, mark, newline):
    file = tmp_path / "s.yaml"
    file.write_text(newline.join([f"{mark}a: é", "b: 2"]), encoding="utf-8", newline="")
    read = document.read(file)
    assert read.data == {"a": "é", "b": 2}
    assert read.line(("b",)) == 2


@pytest.mark.parametrize(
    ("content", "line", "part"),
    [
        (b"a: 1\nb: caf\xe9\n", 2, "found a byte that is not UTF-8 (0xe9); save the file as UTF-8 text"),
        ("a: 1".encode("utf-16"), 1, "not UTF-8"),
        (b"# " + b"x" * 1_000_000, 0, "holds more than 1,000,000 bytes"),
    ],
)
def test_a_file_that_is_no_small_utf_8_text_is_refused(tmp_path, content, line, part):
    file = tmp_path / "s.yaml"
    file.write_bytes(content)
    problem = file_problem(file)
    assert part in problem.message
    assert problem.line == line


def test_a_file_of_the_largest_size_is_read(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_bytes(b"a: 1 #".ljust(1_000_000, b"x"))
    assert document.read(file).data == {"a": 1}


@pytest.mark.parametrize(("name", "part"), [("", "directory"), ("missing.yaml", "No such file"), ("a\0b", "null")])
def test_what_is_no_file_is_refused_in_a_sentence(tmp_path, name, part):
    problem = file_problem(tmp_path / name)
    assert part in problem.message
    assert problem.message.endswith("; give the path of a suite, such as suites/quick.yaml")


def test_a_sentence_begins_with_file_line_and_path():
    told = str(SuiteError("s.yaml", problems_of("a:\n  b: .nan")))
    assert told == "s.yaml:2: a.b: found .nan; every number in a suite is finite"
