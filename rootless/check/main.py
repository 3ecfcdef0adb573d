"""``rootless check-policy``: are policies right, and do inputs keep to them?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from rootless.check import exits
from rootless.check.inputs import units
from rootless.check.policies import in_force, load_policies, looks_like_policy, written
from rootless.policy.inputs.detect import FORMS
from rootless.policy.judge import Judge, report
from rootless.policy.lint import lint
from rootless.policy.reports.model import SEVERITIES, Report, Result, verdict_of

FORMATS = ("text", "json", "sarif", "junit", "github")

_EPILOG = f"""{exits.TEXT}.

The first argument is a policy unless --policy names one: a file, or a built-in such as
builtin:pss-restricted@1.24, builtin:pss-baseline, builtin:cis-docker, builtin:default.
Further arguments that are policies are merged with it; all others are inputs: Kubernetes
manifests, compose files, OCI config.json, the output of inspect, a run command line.
Without any argument the policy that is in force for you is checked.

examples:
  rootless check-policy ~/.config/rootless/policy.yaml
  rootless check-policy builtin:pss-restricted deployment.yaml
  docker inspect web | rootless check-policy builtin:cis-docker -
  rootless check-policy builtin:restricted --running web
  echo 'docker run --privileged alpine' | rootless check-policy builtin:default --as run -"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rootless check-policy",
        usage="rootless check-policy [OPTIONS] [POLICY...] [INPUT...]",
        description="Check policies, and inputs against them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("arguments", nargs="*", metavar="POLICY|INPUT", help="- is standard input")
    add("--policy", action="append", default=[], metavar="FILE", help="a policy; all arguments "
        "are then inputs")  # fmt: skip
    add("--running", action="store_true", help="judge running containers by what the kernel "
        "shows of them; inputs are then names or ids (default: all that run)")  # fmt: skip
    add("--daemon", action="store_true", help="judge this engine's own configuration by the "
        "daemon checks of the CIS benchmark")  # fmt: skip
    add("--image", action="append", default=[], metavar="REF", help="judge an image that the "
        "daemon has by what it alone says; may be repeated")  # fmt: skip
    add("--host", metavar="HOST", help="the daemon that these three ask")
    add("--as", dest="form", choices=FORMS, help="the form of the inputs (default: detected)")
    add("--format", choices=FORMATS, default="text", help="of the report (default: text)")
    add("--engine", action="store_true", help="also apply what this engine never allows, "
        "whatever a policy says")  # fmt: skip
    add("--fail-on", choices=("fail", "warn"), default="fail", help="warn: warnings end with 4")
    add("--severity", choices=SEVERITIES, default="low", help="leave out findings below this")
    add("--rule", action="append", default=[], metavar="RULE", help="only findings of this rule; "
        "may be repeated, and end with *")  # fmt: skip
    add("--explain", metavar="RULE", help="print what a rule is about, and nothing else")
    return parser


@exits.guarded("check-policy")
def main(argv: Sequence[str]) -> int:
    """Run the command; ``argv`` is without the command's name."""
    options = _parser().parse_intermixed_args(argv)
    if options.explain:
        from rootless.check.rules import explain

        return explain(options.explain)
    names, inputs = _split(options)
    if options.daemon and not names:
        names = ["builtin:cis-docker"]
    policy = load_policies(names) if names else in_force()
    judge = Judge(policy, engine=options.engine or not names)
    title = ", ".join(names) or "(the policy in force)"
    if options.running:
        from rootless.check.running import judge_running

        results = judge_running(judge, inputs, options.host)
        if not results:
            return _nothing_runs()
    elif options.daemon or options.image:
        results = _asked(judge, options)
    elif inputs:
        results = [result for name in inputs for result in _judged(judge, name, options.form)]
        excuses = lint(policy, title, judge.used)
        results += [excuses] if excuses.findings else []
    else:
        results = [lint(policy, title, written=written(names))]
    _print(_selected(report(policy, results), options), options.format)
    return _status(results, options.fail_on)


def _asked(judge: Judge, options: argparse.Namespace) -> list[Result]:
    from rootless.check.asked import judge_daemon, judge_image

    results = [judge_image(judge, name, options.host) for name in options.image]
    return [*results, judge_daemon(judge, options.host)] if options.daemon else results


def _nothing_runs() -> int:
    print("no container is running", file=sys.stderr)
    return exits.HOLDS


def _split(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    names: list[str] = list(options.policy)
    inputs: list[str] = []
    for index, argument in enumerate(options.arguments):
        # With --running the words are containers, unless they are policies by their looks.
        asks = options.running or options.daemon or options.image
        first = index == 0 and not options.policy and not asks
        named = argument.startswith("builtin:")
        if first or named or (not inputs and looks_like_policy(argument)):
            names.append(argument)
        else:
            inputs.append(argument)
    return names, inputs


def _judged(judge: Judge, name: str, form: str | None) -> list[Result]:
    return [judge.result(unit, name) for unit in units(name, form)]


def _selected(whole: Report, options: argparse.Namespace) -> Report:
    """The report with the findings that were asked for; verdicts and status count all."""
    lowest = SEVERITIES.index(options.severity)

    def shown(rule: str) -> bool:
        return not options.rule or any(
            rule == wanted or (wanted.endswith("*") and rule.startswith(wanted[:-1]))
            for wanted in options.rule
        )

    return replace(
        whole,
        results=tuple(
            replace(
                result,
                findings=tuple(
                    entry
                    for entry in result.findings
                    if SEVERITIES.index(entry.severity) >= lowest and shown(entry.rule)
                ),
            )
            for result in whole.results
        ),
    )


def _renderer(form: str) -> Callable[[Report], str]:
    if form == "json":
        from rootless.policy.reports import as_json

        return as_json.render
    if form == "sarif":
        from rootless.policy.reports import as_sarif

        return as_sarif.render
    if form == "junit":
        from rootless.policy.reports import as_junit

        return as_junit.render
    if form == "github":
        from rootless.policy.reports import as_github

        return as_github.render
    from rootless.policy.reports import as_text

    return lambda found: as_text.render(found, colour=sys.stdout.isatty())


def _print(found: Report, form: str) -> None:
    text = _renderer(form)(found)
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


def _status(results: Iterable[Result], fail_on: str) -> int:
    verdicts = {verdict_of(result.findings) for result in results}
    if "not-understood" in verdicts:
        return exits.NOT_UNDERSTOOD
    if not verdicts:
        return exits.NOT_UNDERSTOOD
    if "fail" in verdicts:
        return exits.VIOLATIONS
    return exits.WARNINGS if "warn" in verdicts and fail_on == "warn" else exits.HOLDS
