"""What the committed shards of calibration, generation and selection must satisfy.

A shard's files must be those that were written: size, checksum, columns. Beyond that, rows must
refer to rows that exist (captions, candidates, images), and the facts in markers, which have no
checksum, must agree with the rows. How scores, winners and the selection are computed is not
checked here: tests of the stages do that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from synthvlm.checks.checked_run import DISCARDED, CheckedRun, CheckedShard
from synthvlm.checks.images import pair_problems, thumbnail_problems
from synthvlm.checks.snapshot import Flaw, parquet
from synthvlm.data import (
    candidate_schema,
    caption_schema,
    pair_schema,
    preview_schema,
    selection_schema,
)
from synthvlm.run_folder.marker import Marker
from synthvlm.stages.data_set_fingerprints import selection_fingerprint
from synthvlm.stages.generation.candidate_plan import captions_rejected
from synthvlm.stages.generation.pixels import encoding_fact
from synthvlm.stages.generation.prompts import rows_taken, taken_captions
from synthvlm.stages.generation.stopping import choose_stopping
from synthvlm.stages.selected_pairs import SELECTION_FILE

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.stages.generation.prompts import TakenCaptions

__all__ = ["CandidateChecks", "row_problems"]

Row = Mapping[str, Any]


class CandidateChecks:
    """Checks of calibration, generation and selection."""

    def __init__(self, run: CheckedRun, workers: ThreadPoolExecutor) -> None:
        """Nothing is read yet; ``workers`` decode images."""
        self._run, self._workers = run, workers

    def calibrate(self, shard: CheckedShard) -> None:
        """The thresholds in the marker are those of its candidates."""
        run = self._run
        expected = run.fingerprint("calibrate", run.expected.calibration)
        is_current = shard.is_current(
            expected, "it is not finished, or what it depends on has changed"
        )
        table = shard.table("calibrate", candidate_schema(list(self._run.recipe.scorers)))
        if table is None:
            return
        rows = table.to_pylist()
        ids = list(dict.fromkeys(row["caption_id"] for row in rows))
        problems = list(row_problems(rows))
        if is_current:
            problems += _count_problems(rows, ids, run.recipe.generation.candidates)
        shard.add_damage(shard.name("calibrate"), problems)
        if is_current and not problems:
            shard.compare_facts(self._thresholds(shard.marker, rows, len(ids)))

    def _thresholds(self, marker: Marker, rows: Sequence[Row], captions: int) -> dict[str, object]:
        """Expected facts of the calibration.

        All later images depend on the thresholds, and a marker has no checksum of its own: so they
        are computed again, by the function of the stage.
        """
        adaptive = self._run.recipe.generation.adaptive
        scores = np.array([np.nan if r["score"] is None else r["score"] for r in rows])
        expected: dict[str, object] = {"captions": captions}
        if adaptive is None or np.isnan(scores).all():
            return expected
        stopping = choose_stopping(scores.reshape(captions, -1), adaptive.keep_gain)
        for name in ("threshold", "decay"):
            recorded, value = marker.facts.get(name), getattr(stopping, name)
            # Sums may be rounded differently on another processor.
            is_close = isinstance(recorded, int | float) and abs(recorded - value) < 1e-6
            expected[name] = recorded if is_close else value
        return expected

    def generate(self, shard: CheckedShard) -> None:
        """Candidates are those of the kept captions; each winner has an image, and no other."""
        run, marker = self._run, shard.marker
        captions = run.table("curate", shard.number, "captions", caption_schema())
        is_current, ids = False, list[str]()
        if captions is not None:
            taken = taken_captions(run.recipe, run.snapshot.marker("target", 0))
            ids = rows_taken(shard.number, captions, taken)["id"].to_pylist()
            is_current = self._is_current(shard, captions, taken)
        table = shard.table("candidates", candidate_schema(list(self._run.recipe.scorers)))
        rows = None if table is None else table.to_pylist()
        if rows is not None:
            problems = list(row_problems(rows))
            if is_current:
                problems += _count_problems(rows, ids, run.recipe.generation.candidates)
            shard.add_damage(shard.name("candidates"), problems)
            if marker.fingerprint != DISCARDED:
                shard.compare_facts(self._facts(marker, rows, is_current=is_current))
        self._pairs(shard, rows)
        self._previews(shard, rows)

    def _is_current(
        self, shard: CheckedShard, captions: pa.Table, taken: TakenCaptions | None
    ) -> bool:
        run, calibration = self._run, self._run.snapshot.marker("calibrate", 0)
        expected = run.fingerprint(
            "generate",
            lambda: run.expected.candidates(shard.number, captions, taken, calibration),
        )
        problem = "its captions, models or settings of generation have changed"
        if "depends" not in shard.marker.facts:
            problem = (
                "it was made by an earlier version of synthvlm; its images are generated again"
            )
        if shard.marker.fingerprint == DISCARDED:
            problem = "its damaged files were discarded"
        failed, pending = (shard.marker.facts.get(name) for name in ("failed", "pending"))
        if pending:
            shard.add_for_marker("stale", f"{pending} candidates are pending: the run was stopped")
            return False
        is_current = shard.is_current(expected, problem)
        if is_current and failed:
            shard.add_for_marker("stale", f"{failed} candidates that failed will be retried")
        return is_current

    def _facts(self, marker: Marker, rows: Sequence[Row], *, is_current: bool) -> dict[str, object]:
        """Expected facts of a generated shard: the data-set card depends on them."""
        states = Counter(row["status"] for row in rows)
        recorded = marker.facts.get("failed")

        def captions(column: str) -> int:
            return len({row["caption_id"] for row in rows if row[column]})

        expected: dict[str, object] = {
            "captions": len({row["caption_id"] for row in rows}),
            "candidates": len(rows),
            "unsafe": states["unsafe"],
            "skipped": states["skipped"] + states["surplus"],
            "truncated": captions("truncated"),
            "prompt_truncated": captions("prompt_truncated"),
            "irreproducible": sum(r["score"] is not None and not r["reproducible"] for r in rows),
            # In old folders it also counts winners whose image was still to be generated again.
            "failed": recorded
            if isinstance(recorded, int) and recorded >= states["failed"]
            else states["failed"],
        }
        for name, count in (
            ("rejected", states["rejected"]),
            ("outranked", states["outranked"]),
            ("captions_rejected", captions_rejected((r["caption_id"], r["status"]) for r in rows)),
        ):
            if count or name in marker.facts:
                expected[name] = count
        if states["pending"] and not marker.facts.get("pending", 0) >= states["pending"]:
            expected["pending"] = states["pending"]
        if is_current:
            expected["encoding"] = encoding_fact(self._run.recipe.generation.image)
        return expected

    def _pairs(self, shard: CheckedShard, candidates: Sequence[Row] | None) -> None:
        name = shard.name("pairs")
        chosen = [_key(row) for row in candidates or () if row["chosen"]]
        if not name and chosen and shard.marker.fingerprint != DISCARDED:
            problem = f"it names no file of pairs, but {len(chosen):,} candidates are chosen"
            shard.add_for_marker("damaged", problem)
        data = shard.data("pairs")
        if data is None:
            return
        keys: list[tuple[str, int]] = []
        problems: list[str] = []
        try:
            file = parquet(data, pair_schema())
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group)
                keys += _keys(rows)
                problems += pair_problems(rows, self._workers)
        except Flaw as flaw:
            shard.add(name, flaw.kind, str(flaw))
            return
        if candidates is not None and keys != chosen:
            without_image = sorted(set(chosen) - set(keys))
            not_chosen = sorted(set(keys) - set(chosen))
            problems += (f"candidate {n} of {id!r} is chosen, but has no image"
                         for id, n in without_image)  # fmt: skip
            problems += (f"candidate {n} of {id!r} has an image, but is not chosen"
                         for id, n in not_chosen)  # fmt: skip
            if not without_image and not not_chosen:
                problems.append("its rows are not in the order of the candidates")
        shard.add_damage(name, problems)

    def _previews(self, shard: CheckedShard, candidates: Sequence[Row] | None) -> None:
        rows = shard.table("previews", preview_schema())
        if rows is None:
            return
        problems = list(thumbnail_problems(rows))
        if candidates is not None:
            losers = {_key(row) for row in candidates if not row["chosen"]}
            problems += (f"candidate {n} of {id!r} has a thumbnail, but did not lose"
                         for id, n in _keys(rows) if (id, n) not in losers)  # fmt: skip
        shard.add_damage(shard.name("previews"), problems)

    def select(self, shard: CheckedShard) -> None:
        """The selection is up to date, and holds winners only, each once."""
        run = self._run
        expected = run.fingerprint(
            "select",
            lambda: selection_fingerprint(
                run.recipe, run.markers("curate"), run.generated, run.marks
            ),
        )
        shard.is_current(
            expected, "the candidates, marks, or the settings of selection, have changed"
        )
        if shard.findings:
            return  # the next run writes it anew, so its content does not matter
        if not shard.name(SELECTION_FILE):
            shard.add_for_marker("damaged", f"it does not name {SELECTION_FILE}")
        rows = shard.table(SELECTION_FILE, selection_schema(list(self._run.recipe.scorers)))
        if rows is None:
            return
        problems = []
        if rows["rank"].to_pylist() != list(range(1, rows.num_rows + 1)):
            problems.append("its ranks are not 1, 2, 3 ...")
        winners = self._winners()
        selected = list(zip(rows["shard"].to_pylist(), *_columns(rows), strict=True))
        if winners is not None:
            shard.compare_facts({"selected": rows.num_rows, "pairs": len(winners)})
            problems += (f"candidate {n} of {id!r} is not a winner of shard {of}"
                         for of, id, n in selected if (of, id, n) not in winners)  # fmt: skip
        counts = Counter(selected)
        problems += (f"candidate {n} of {id!r} is selected {count} times"
                     for (_, id, n), count in counts.items() if count > 1)  # fmt: skip
        shard.add_damage(SELECTION_FILE, problems)

    def _winners(self) -> set[tuple[int, str, int]] | None:
        """Shard, caption and number of every winner; None if some candidates are damaged."""
        winners: set[tuple[int, str, int]] = set()
        schema = candidate_schema(list(self._run.recipe.scorers))
        for number, marker in self._run.generated.items():
            if marker.file("candidates") is not None:
                rows = self._run.table("generate", number, "candidates", schema)
                if rows is None:
                    return None
                winners |= {(number, *key) for key in _keys(rows.filter(rows["chosen"]))}
        return winners


def row_problems(rows: Sequence[Row]) -> Iterator[str]:
    """Where candidates contradict each other: a key twice, two winners, a winner that is not ok."""
    for (id, index), count in Counter(map(_key, rows)).items():
        if count > 1:
            yield f"candidate {index} of {id!r} occurs {count} times"
    winners = Counter(row["caption_id"] for row in rows if row["chosen"])
    for id, count in winners.items():
        if count > 1:
            yield f"{count} candidates of {id!r} are chosen"
    for row in rows:
        if row["chosen"] and (row["status"] != "ok" or row["score"] is None):
            yield f"candidate {row['index']} of {row['caption_id']!r} is chosen, but not usable"


def _count_problems(rows: Sequence[Row], ids: Sequence[str], count: int) -> Iterator[str]:
    """Where candidates are not ``count`` of each caption, in order."""
    if len(rows) != len(ids) * count:
        yield f"it has {len(rows):,} rows, not {count} for each of {len(ids):,} captions"
    expected = ((id, index) for id in ids for index in range(count))
    for row, key in zip(rows, expected, strict=False):
        if _key(row) != key:
            yield f"candidate {row['index']} of {row['caption_id']!r} is in the place of {key}"
            return


def _key(row: Row) -> tuple[str, int]:
    return row["caption_id"], row["index"]


def _columns(rows: pa.Table) -> tuple[list[str], list[int]]:
    return rows["caption_id"].to_pylist(), rows["index"].to_pylist()


def _keys(rows: pa.Table) -> Iterator[tuple[str, int]]:
    return zip(*_columns(rows), strict=True)
