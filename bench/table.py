"""Results as Markdown, and the part of a page between two markers kept equal to it.

`python -m bench.table RESULTS.json` prints it; `--write PAGE.md` puts it between the page's markers.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.results import read
from bench.spread import by_round, pairs_a_second, pairs_a_second_with_reference, ratio, spread, tokens_a_second

Results = Mapping[str, Any]
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
GIB = 2**30

TRL_ON_A_CPU = (
    "TRL's CPU path scores every position of every row, its CUDA path only those of the answers: on a GPU expect far "
    "less than these ratios."
)


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    decimals = next((places for places, least in enumerate((100, 10, 1, 0.1)) if abs(value) >= least), 4)
    return f"{value:.{decimals}f}"


def between(figures: Mapping[str, float], scale: float = 1.0) -> str:
    """`median (smallest to largest)`, or the median alone where the three look alike."""
    low, middle, high = (number(figures[name] * scale) for name in ("min", "median", "max"))
    return middle if low == high else f"{middle} ({low} to {high})"


def arms_table(results: Results, geometry: str) -> str:
    """One row per arm: seconds a step, pairs and tokens a second, memory, share of the matmul rate."""
    rows = [
        "| | s a step | pairs/s | with reference | tokens/s | peak GiB | first loss | share of matmul rate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in results["geometries"][geometry]["arms"]:
        runs = list(by_round(results["runs"], geometry, name).values())
        if not runs:
            reason = results["unavailable"].get(geometry, {}).get(name, "not measured")
            rows.append(f"| {results['arms'][name]['title']} | {reason} | | | | | | |")
            continue
        per_step = results["geometries"][geometry]["pairs_per_step"]
        speeds = spread([pairs_a_second(run) for run in runs])
        seconds = spread([per_step / pairs_a_second(run) for run in runs])
        cells = (
            results["arms"][name]["title"],
            between(seconds),
            between(speeds),
            number(spread([pairs_a_second_with_reference(run) for run in runs])["median"]),
            number(spread([tokens_a_second(run) for run in runs])["median"]),
            between(spread([run["peak_bytes"] for run in runs]), 1 / GIB),
            f"{spread([run['first_loss'] for run in runs])['median']:.4f}",
            f"{results['roofline'][geometry][name]['share_of_larger_rate']:.0%}",
        )
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def sample(results: Results, geometry: str) -> str:
    """How long the measured pairs are beside those of the whole set."""
    whole = results["whole"][geometry]
    measured = [
        f"{order} {sum(map(sum, pairs)) / len(pairs):.0f}"
        for order, batches in results["lengths"][geometry].items()
        if (pairs := [pair for batch in batches for pair in batch])
    ]
    mean = whole["tokens"] / whole["pairs"]
    return f"Tokens a pair: {mean:.0f} in the whole set of {whole['pairs']:,}; in the batches, {', '.join(measured)}."


def verdict_table(results: Results) -> str:
    """One row per target that was measured."""
    rows = ["| to reach | bound | measured | |", "|---|---|---|---|"]
    for verdict in results["verdicts"]:
        if verdict["figure"] is not None:
            sign = "≥" if verdict["side"] == "least" else "≤"
            figure = f"{verdict['figure']:.3g}"
            rows.append(f"| {verdict['title']} | {sign} {verdict['bound']:g} | {figure} | {verdict['status']} |")
    unmeasured = sum(verdict["figure"] is None for verdict in results["verdicts"])
    return "\n".join(rows) + (f"\n\nTargets not measured here: {unmeasured}." if unmeasured else "")


def roads(results: Results, geometry: str) -> str:
    """What drove our arms, and how far our two roads are apart, where that was asked (on a GPU)."""
    drivers = {run["driver"] for run in results["runs"] if run["geometry"] == geometry and "driver" in run}
    apart = results["parity"].get(geometry, {})
    lines = [f"Driven by: {', '.join(sorted(drivers))}."] if drivers else []
    if "unavailable" in apart:
        lines.append(f"Shared against separate: not measured, {apart['unavailable']}.")
    else:
        lines += [f"Shared against separate, {dtype}: {parity_line(found)}" for dtype, found in apart.items()]
    return "\n".join(lines)


def parity_line(found: Mapping[str, Any]) -> str:
    """What one dtype's comparison of the roads came to."""
    if "unavailable" in found:
        return f"not measured, {found['unavailable']}."
    line = f"loss {found['loss']:.1e}, gradients {found['gradient']:.1e} (relative), by {', '.join(found['kernels'])}."
    if "times" in found:
        times = found["times"]
        line += (
            f" Its error against float32 is {number(times['loss'])} times the plain road's in the loss, "
            f"{number(times['gradient'])} times in the gradients."
        )
    return line


def comparisons(results: Results, geometry: str) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(peer's title, ratio in pairs/s, ratio in peak memory) of our fixed β against each TRL arm, smaller ratio first.

    Each is taken on the same batches: our grouped arm stands against TRL's grouped one.
    """
    found: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    for ours, theirs in (("fixed-grouped", "trl-best"), ("fixed", "trl-default"), ("plain", "trl-default")):
        speed = ratio(results["runs"], geometry, ours, theirs, "speed")
        memory = ratio(results["runs"], geometry, ours, theirs, "memory")
        if speed is not None and memory is not None and not (ours == "plain" and found):
            found.append((f"{results['arms'][ours]['title']} over {results['arms'][theirs]['title']}", speed, memory))
    return sorted(found, key=lambda entry: entry[1]["median"])


def lead(results: Results, geometry: str) -> str:
    """The comparisons in words, the smaller ratio first."""
    lines = [
        f"- {title}: **{between(speed)}×** the pairs per second, {between(memory)}× the peak memory"
        for title, speed, memory in comparisons(results, geometry)
    ]
    return "\n".join(lines)


def headline(results: Results) -> str:
    """What README shows: of each geometry where TRL was measured, ratios and table; machine and command."""
    shown = [name for name in results["geometries"] if comparisons(results, name)]
    shown.sort(key=lambda name: comparisons(results, name)[0][1]["median"])
    blocks: list[str] = []
    for name in shown:
        described = results["geometries"][name]
        words = [
            f"**{described['title']}**, {described['pairs_per_step']} pairs a step, float32, medians of "
            f"{described['rounds']} rounds (range):",
            lead(results, name),
            arms_table(results, name),
            sample(results, name),
        ]
        blocks.append("\n\n".join(words))
    machine, versions = results["machine"], results["versions"]
    ran = (
        f"`{results['command']}`, {results['date']}, {machine['cores']} cores of {machine['cpu']}, torch "
        f"{versions['torch']}, transformers {versions['transformers']}, TRL {versions['trl']}. {TRL_ON_A_CPU}"
    )
    return "\n\n".join([*blocks, ran])


def report(results: Results) -> str:
    """What the command prints: every geometry, then the targets."""
    blocks = [
        f"### {described['title']}\n\n{arms_table(results, name)}\n\n{sample(results, name)}"
        for name, described in results["geometries"].items()
    ]
    for name in results["geometries"]:
        if found := roads(results, name):
            blocks.append(found)
        if comparisons(results, name):
            blocks.append(f"{results['geometries'][name]['title']}:\n\n{lead(results, name)}")
    left_out = [f"No time was left for: {', '.join(results['left_out'])}."] if results["left_out"] else []
    on_a_cpu = [] if results["machine"].get("gpu") else [TRL_ON_A_CPU]
    blocks += [*results["skipped"], *left_out, verdict_table(results), *on_a_cpu]
    return "\n\n".join(blocks)


def marked_part(page: str) -> str | None:
    """What stands between the markers, None where there are none."""
    if BEGIN not in page:
        return None
    return page.partition(BEGIN)[2].partition(END)[0].strip()


def with_marked_part(page: str, part: str) -> str:
    """The page with this between its markers."""
    before, begin, rest = page.partition(BEGIN)
    assert begin and END in rest, f"the page must hold {BEGIN} and {END}"
    return f"{before}{BEGIN}\n\n{part}\n\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """Print the table, or write it into a page."""
    parser = argparse.ArgumentParser(prog="python -m bench.table", description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put it between the markers of this page")
    arguments = parser.parse_args()
    results = read(arguments.results)
    if arguments.write is None:
        print(report(results))
    else:
        page = arguments.write.read_text(encoding="utf-8")
        arguments.write.write_text(with_marked_part(page, headline(results)), encoding="utf-8")


if __name__ == "__main__":
    main()
