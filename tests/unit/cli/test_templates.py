"""Go templates: what --format can say, with Go's results and words."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.cli.commands import images, ps
from rootless.cli.formats import Listing, one_text, table_text
from rootless.templates.functions import quoted
from rootless.templates.template import MissingField, Template, TemplateError

DATA: dict[str, Any] = {
    "Id": "abc",
    "Name": "/web",
    "N": 3,
    "Zero": 0,
    "F": 1.5,
    "Yes": True,
    "Empty": "",
    "None": None,
    "List": ["a", "b", "c"],
    "Map": {"y": 2, "x": 1},
    "State": {"Status": "running", "Pid": 12},
    "Ports": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "53/udp": None},
}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("{{.Id}} {{.ID}} {{.State.Status}}", "abc abc running"),
        ("{{ .N }}{{/* a comment */}}!", "3!"),
        (
            "{{.Yes}} {{.F}} {{.None}} {{.List}} {{.Map}}",
            "true 1.5 <no value> [a b c] map[x:1 y:2]",
        ),
        ("{{json .State}}", '{"Status":"running","Pid":12}'),
        ('{{json .Name | printf "%s!"}}', '"/web"!'),
        ("{{.Name | upper | lower}} {{title .State.Status}}", "/web Running"),
        ('{{join .List ","}} {{len .List}} {{len .Name}} {{index .List 1}}', "a,b,c 3 4 b"),
        (
            '{{index .Map "x"}} {{index (index .Ports "80/tcp") 0}}',
            "1 map[HostIp:127.0.0.1 HostPort:8080]",
        ),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ("{{if .Zero}}a{{else if .Empty}}b{{else}}c{{end}}", "c"),
        ("{{if and .Yes .N}}1{{end}}{{if or .Zero .Id}}2{{end}}{{if not .Zero}}3{{end}}", "123"),
        ("{{range .List}}<{{.}}>{{end}}", "<a><b><c>"),
        ("{{range $i, $e := .List}}{{$i}}={{$e}} {{end}}", "0=a 1=b 2=c "),
        ("{{range $k, $v := .Map}}{{$k}}:{{$v}} {{end}}", "x:1 y:2 "),
        ('{{range .List}}{{if eq . "b"}}{{continue}}{{end}}{{.}}{{end}}', "ac"),
        ("{{range .List}}{{.}}{{break}}{{end}}", "a"),
        ('{{range .Empty | split "a,b"}}<{{.}}>{{else}}none{{end}}', "<a><,><b>"),
        ("{{range .None}}{{else}}none{{end}}", "none"),
        ('{{range split "a,b" ","}}[{{.}}]{{end}}', "[a][b]"),
        ("{{with .State}}{{.Pid}}{{$.Id}}{{end}}", "12abc"),
        ("{{with .Empty}}x{{else}}y{{end}}", "y"),
        ("{{$x := .N}}{{$x}}{{$x = 4}}{{$x}}", "34"),
        ("{{range $p, $conf := .Ports}}{{$p}} -> {{(len $conf)}};{{end}}", None),
        (
            "{{eq .N 3}} {{eq .N 1 2 3}} {{ne .N 3}} {{lt .N 4}} {{ge .N 4}}",
            "true true false true false",
        ),
        (
            '{{printf "%s:%d %05d %x %q %v %t %%" .Id .N 42 255 "a" .List true}}',
            'abc:3 00042 ff "a" [a b c] true %',
        ),
        ('{{print 1 2 "a" 3}} {{println 1 "b"}}', "1 2a3 1 b\n"),
        ("a  {{- .N -}}  b", "a3b"),
        ('{{`raw \\n`}} {{"tab\\t"}}', "raw \\n tab\t"),
        (
            "{{pad .Id 1 2}}|{{truncate .Id 2}}|{{slice .Id 1}}|{{slice .List 1 2}}",
            " abc  |ab|bc|[b]",
        ),
        ('{{define "x"}}<{{.}}>{{end}}{{template "x" .N}}', "<3>"),
        ('{{html "<a>"}} {{urlquery "a b"}}', "&lt;a&gt; a+b"),
        ("{{'a'}} {{-3}} {{0x10}} {{true}}", "97 -3 16 true"),
    ],
)
def test_results(text: str, result: str | None) -> None:
    if result is None:
        with pytest.raises(TemplateError):
            Template(text).render(DATA)
    else:
        assert Template(text).render(DATA) == result


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{.Nope}}", 'executing "" at <.Nope>: map has no entry for key "Nope"'),
        ("{{.Id.X}}", "can't evaluate field X in type string"),
        ("{{.None.X}}", "nil data"),
        ("{{foo .}}", 'function "foo" not defined'),
        ("{{.Id", "unclosed action"),
        ("{{if .Id}}x", "unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{}}", "missing value for command"),
        ("{{if}}{{end}}", "missing value for if"),
        ("{{/* x }}", "unclosed action"),
        ("{{(.Id}}", "unclosed left paren"),
        ("{{.Id | }}", "missing value"),
        ("{{$x}}", 'undefined variable "$x"'),
        ("{{index .List 9}}", "index out of range: 9"),
        ("{{upper .N}}", "wrong type"),
        ("{{upper}}", "wrong number of args for upper"),
        ("{{range .N2}}{{end}}", "no entry"),
        ("{{range .Id}}{{end}}", "can't iterate"),
        ('{{template "q"}}', 'no template "q"'),
        ('{{lt .N "a"}}', "incompatible types"),
        ("{{.Id .N}}", "can't give argument to non-function"),
        ('{{"\\q"}}', "escape"),
        ("{{&}}", "unexpected"),
    ],
)
def test_errors(text: str, said: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(text).render(DATA)
    assert said in caught.value.message


INSPECTED: dict[str, Any] = {
    "Id": "abc",
    "Config": {"Labels": {"app": "web"}, "Entrypoint": None, "Env": ["A=1"]},
    "HostConfig": {"Binds": None, "PidsLimit": None},
    "State": {"Status": "running"},
    "Actor": {"Attributes": {}},
    "NetworkSettings": {"Ports": {"80/tcp": [{"HostPort": "8080"}], "53/udp": None}},
}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ('<{{index .Config.Labels "nope"}}>', "<>"),
        ('{{if index .Config.Labels "nope"}}yes{{else}}no{{end}}', "no"),
        ('{{eq (index .Config.Labels "nope") ""}}', "true"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ("{{with .State.Health}}{{.Status}}{{end}}", ""),
        ("{{.State.Health}} {{json .State.Health}}", "<nil> null"),
        ("{{.HostConfig.Binds}} {{json .HostConfig.Binds}}", "[] null"),
        ("{{range .HostConfig.Binds}}x{{end}}{{len .HostConfig.Binds}}", "0"),
        ("{{.Config.Entrypoint}}{{.Config.Volumes}}", "[]map[]"),
        ("{{.HostConfig.PidsLimit}} {{.SizeRw}}", "<nil> <nil>"),
        ("{{.Config.Labels.app}} {{.Config.Labels.nope}}", "web <no value>"),
        ("{{.Config.Volumes.x}} {{.Actor.Attributes.name}}", "<no value> <no value>"),
        ('{{index .NetworkSettings.Ports "99/tcp"}}', "[]"),
        ('{{range .Config.Env}}{{.}}{{"\\n"}}{{end}}x', "A=1\nx"),
        (r"{{.Id}}\t{{.Id}}", r"abc\tabc"),
    ],
)
def test_inspect_knows_the_fields_that_are_left_out(form: str, text: str) -> None:
    assert one_text(form, INSPECTED) == text


@pytest.mark.parametrize("form", ["{{.State.Health.Status}}", "{{.Nope}}", "{{.State.Nope}}"])
def test_inspect_refuses_what_no_object_has(form: str) -> None:
    with pytest.raises(MissingField):
        one_text(form, INSPECTED)


@given(st.text(alphabet='{}.$ "|()abrangeifdelsw`\\-', max_size=40))
def test_any_text_is_a_template_or_a_template_error(text: str) -> None:
    with suppress(TemplateError):
        Template(text, strict=False).render(DATA)


def test_tables_have_dockers_widths() -> None:
    assert table_text([["A", "B", "C"], ["1", "0123456789ab", ""]]) == (
        "A         B              C\n1         0123456789ab   \n"
    )
    assert table_text([]) == ""


CONTAINER = {
    "Id": "ab" * 32,
    "Names": ["/web", "/other/link"],
    "Image": "busybox",
    "Command": "a command longer than twenty",
    "Created": 1,
    "State": "running",
    "Status": "Up 2 hours",
    "Ports": [
        {"IP": "127.0.0.1", "PrivatePort": 81, "PublicPort": 8081, "Type": "tcp"},
        {"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 53, "Type": "udp"},
    ],
    "Labels": {"b": "2", "a": "1"},
}


def shown(form: str, **options: Any) -> str:
    return ps.listing(full=False, size=False).text([CONTAINER], form, **options)


def test_ps_columns() -> None:
    head, row = shown("").splitlines()
    assert head.split("  ")[0] == "CONTAINER ID"
    assert row.startswith('abababababab   busybox   "a command longer th…"   ')
    assert row.endswith(
        "   Up 2 hours   53/udp, 127.0.0.1:8080->80/tcp, 127.0.0.1:8081->81/tcp   web"
    )


def test_listing_forms() -> None:
    assert shown("", quiet="ID") == "abababababab\n"
    assert shown("{{.Names}} {{.Labels}}") == "web a=1,b=2\n"
    assert shown(r"table {{.ID}}\t{{.Status}}") == (
        "CONTAINER ID   STATUS\nabababababab   Up 2 hours\n"
    )
    assert '"Names":"web"' in shown("json")
    assert shown("{{json .}}") == shown("json")
    with pytest.raises(TemplateError, match="Nope"):
        shown("{{.Nope}}")


def test_json_of_a_listing_is_escaped_as_go_does() -> None:
    listing = Listing({"A": "A"}, {"A": lambda item: item}, ("A",))
    assert listing.text(["<none>&"], "json") == '{"A":"\\u003cnone\\u003e\\u0026"}\n'


def test_one_object() -> None:
    assert one_text("json", {"a": "é<"}) == '{"a":"é<"}'
    assert one_text(r"{{.a}}\t!", {"a": 1}) == r"1\t!"


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("sh -c 'a \"b\"' \\", '"sh -c \'a \\"b\\"\' \\\\"'),
        ("a\tb\nc\x1b", '"a\\tb\\nc\\x1b"'),
        ("é…", '"é…"'),
        ("\u200b\U000e0001", '"\\u200b\\U000e0001"'),
    ],
)
def test_strings_are_quoted_as_go_quotes_them(text: str, literal: str) -> None:
    assert quoted(text) == literal
    assert Template("{{printf `%q` .}}").render(text) == literal


@pytest.mark.parametrize(
    ("form", "refused"),
    [("{{.Nope}}", True), ("table {{.Nope}}", True), ("{{.Name}}", False),
     ("{{slice .Name 0 3}}", False)],
)  # fmt: skip
def test_a_list_without_rows_still_refuses_unknown_fields(form: str, *, refused: bool) -> None:
    shown = Listing({"Name": "NAME"}, {"Name": lambda item: item}, ("Name",))
    if refused:
        with pytest.raises(MissingField, match="Nope"):
            shown.text([], form)
    else:
        assert shown.text([], form) in ("", "NAME\n")


def test_lists_have_labels_by_name() -> None:
    shown = ps.listing(full=False, size=False)
    items = [{**CONTAINER, "Labels": {"com.example.the-tier": "db"}}]
    form = r'table {{.Label "com.example.the-tier"}}\t{{.Label "no"}}\t{{.State}}'
    assert shown.text(items, form) == ("the tier   no        STATE\ndb                   running\n")
    assert shown.text([], '{{.Label "x"}}') == ""
    assert shown.text(items, r"{{.State}}\n") == "running\n\n"
    assert shown.text(items, r'{{.State}}{{"\n"}}x') == "running\nx\n"
    with pytest.raises(TemplateError, match="wrong number of args for Label"):
        shown.text(items, "{{.Label}}")
    with pytest.raises(MissingField):
        images.listing(full=False, digests=False).text([], '{{.Label "x"}}')
