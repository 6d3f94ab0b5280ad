"""Make the next run redo what is damaged, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthvlm.checks.checked_run import DISCARDED
from synthvlm.checks.findings import Verification
from synthvlm.checks.rows import candidate_problems, choice_problems
from synthvlm.checks.snapshot import Flaw, Snapshot, table
from synthvlm.data import candidate_schema, digest, pair_schema
from synthvlm.recipe.generation import ImageSettings
from synthvlm.run_folder.marker import Marker, StoredFile, marker_name
from synthvlm.stages.generation.pixels import encoding_fact

if TYPE_CHECKING:
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["discard"]


def discard(run: RunFolder, found: Verification) -> list[str]:
    """Discard what a verification found damaged or missing; nothing else changes.

    Of a generate shard, whose images are dear, sound files stay: the next run carries sound
    candidates over and draws winners again whose images are lost. A calibration whose rows are lost
    keeps its thresholds. Of any other stage the marker goes, and the shard is done again.

    Args:
        run: The run folder, held (``run.held()``) since before the verification.
        found: The verification.

    Returns:
        A line on each shard, for people.

    Raises:
        RunFolderError: The folder cannot be written, or another run took it over.
    """
    bad: dict[tuple[str, int], set[str]] = {}
    for finding in found.bad:
        if finding.shard is not None:
            bad.setdefault((finding.stage, finding.shard), set()).add(finding.file)
    look = Snapshot(run)
    lines = []
    gone: dict[str, set[int]] = {}
    for (stage, shard), files in bad.items():
        kept = _keep(run, look, stage, shard, files)
        if kept is None:
            gone.setdefault(stage, set()).add(shard)
        lines.append(f"{stage}, shard {shard}: {kept or 'the whole shard is done again'}")
    for stage, shards in gone.items():
        others = set(look.shards().get(stage, ())) - shards
        run.sweep(stage, (), dict.fromkeys(others, Marker("")))
    return lines


def _keep(run: RunFolder, look: Snapshot, stage: str, shard: int, bad: set[str]) -> str | None:
    """Commit what is sound of a shard, and say so; None: nothing of it is worth that."""
    if stage not in ("generate", "calibrate"):
        return None
    marker = look.marker(stage, shard)
    if marker is None:
        marker = _orphans(run, look, shard) if stage == "generate" else None
    if marker is None:
        return None
    sound = [file for file in marker.files if file.path not in bad]
    if stage == "calibrate":
        if sound:
            run.commit(stage, shard, DISCARDED, sound)
            return "its candidates stay, its thresholds are found again"
        if set(marker.facts) >= {"threshold", "decay"}:
            run.commit(stage, shard, marker.fingerprint, (), marker.facts)
            return "its thresholds stay, the scores they were found by are lost"
        return None
    if not any(file.folder == "candidates" for file in sound):
        return None  # without its rows no image counts
    is_trusted = marker_name(stage, shard) not in bad
    encoding = marker.facts.get("encoding") if is_trusted else _encoding(look, sound)
    run.commit(stage, shard, DISCARDED, sound, {**marker.facts, "encoding": encoding})
    lost = {file.folder for file in marker.files} - {file.folder for file in sound}
    if "pairs" in lost or (not is_trusted and encoding is None):
        return "its winners are drawn again, all its scores stay"
    if "previews" in lost:
        return "all its winners stay; thumbnails of its losers are lost"
    return "all its winners stay, its marker is written anew"


def _encoding(look: Snapshot, files: list[StoredFile]) -> str | None:
    """How winners are encoded, told by themselves; None: of what is lossy nobody can say."""
    for file in files:
        if file.folder == "pairs":
            try:
                formats = set(table(look.load(file), pair_schema())["format"].to_pylist())
            except Flaw:
                return None
            return encoding_fact(ImageSettings(format="png")) if formats == {"png"} else None
    return None


def _orphans(run: RunFolder, look: Snapshot, shard: int) -> Marker | None:
    """What a damaged marker must have named: files of its shard, if there is one of each kind.

    An attempt that was killed leaves such files too. Candidates tell by themselves what they depend
    on; of the winners all must be chosen there, and all that are chosen must be there.
    """
    files: list[StoredFile] = []
    chosen: list[tuple[str, int]] = []
    for folder, schema in (("candidates", candidate_schema([])), ("pairs", pair_schema())):
        names = run.tables_of(folder, shard)
        if len(names) != 1:
            break
        data = run.read(names[0])
        try:
            rows = table(data, schema)
        except Flaw:
            break
        if folder == "candidates":
            candidates = rows.to_pylist()
            if [*candidate_problems(candidates, {}, None), *choice_problems(candidates)]:
                break
            chosen = [(row["caption_id"], row["index"]) for row in candidates if row["chosen"]]
        elif chosen != list(
            zip(rows["caption_id"].to_pylist(), rows["index"].to_pylist(), strict=True)
        ):
            break
        files.append(StoredFile(names[0], len(data), digest([data])))
    return Marker(DISCARDED, tuple(files)) if files else None
