"""``synthvlm verify --discard``: makes the next run redo what is damaged, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthvlm.checks.checked_run import DISCARDED
from synthvlm.checks.findings import Verification
from synthvlm.checks.shard_checks import row_problems
from synthvlm.checks.snapshot import Flaw, Snapshot, table
from synthvlm.data import candidate_schema, digest, pair_schema
from synthvlm.recipe.generation import ImageSettings
from synthvlm.run_folder.marker import Marker, StoredFile, marker_name
from synthvlm.stages.generation.pixels import encoding_fact

if TYPE_CHECKING:
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["discard"]


def discard(run: RunFolder, verification: Verification) -> list[str]:
    """Discard what a verification found damaged or missing. No data is deleted.

    The images of a generate shard are expensive, so its intact files stay: the next run keeps the
    intact candidates, and generates only the winners whose images are lost. A calibration whose
    rows are lost keeps its thresholds. In any other stage, the marker is removed and the whole
    shard is done again.

    Args:
        run: The run folder; its lock must be held (``run.held()``) since before the verification.
        verification: What was found.

    Returns:
        One line for each affected shard.

    Raises:
        RunFolderError: The folder cannot be written, or another run took it over.
    """
    bad_files: dict[tuple[str, int], set[str]] = {}
    for finding in verification.bad:
        if finding.shard is not None:
            bad_files.setdefault((finding.stage, finding.shard), set()).add(finding.file)
    snapshot = Snapshot(run)
    lines = []
    discarded: dict[str, set[int]] = {}
    for (stage, shard), files in bad_files.items():
        effect = _keep_intact_files(run, snapshot, stage, shard, files)
        if effect is None:
            discarded.setdefault(stage, set()).add(shard)
        lines.append(f"{stage}, shard {shard}: {effect or 'the whole shard is done again'}")
    for stage, shards in discarded.items():
        others = set(snapshot.shards().get(stage, ())) - shards
        run.sweep(stage, (), dict.fromkeys(others, Marker("")))
    return lines


def _keep_intact_files(
    run: RunFolder, snapshot: Snapshot, stage: str, shard: int, bad: set[str]
) -> str | None:
    """Commit the intact files of a shard, and describe the effect.

    None if no file of it is worth keeping.
    """
    if stage not in ("generate", "calibrate"):
        return None
    marker = snapshot.marker(stage, shard)
    if marker is None and stage == "generate":
        marker = _reconstructed_marker(run, shard)
    if marker is None:
        return None
    intact = [file for file in marker.files if file.path not in bad]
    if stage == "calibrate":
        if any(file.folder == "calibrate" for file in intact):
            run.commit(stage, shard, DISCARDED, intact, marker.facts)
            return "its candidates are kept, its thresholds are computed again"
        if set(marker.facts) >= {"threshold", "decay"}:
            run.commit(stage, shard, marker.fingerprint, intact, marker.facts)
            return "its thresholds are kept, the scores they were computed from are lost"
        return None
    if not any(file.folder == "candidates" for file in intact):
        return None  # an image without its row does not count
    is_trusted = marker_name(stage, shard) not in bad
    encoding = marker.facts.get("encoding") if is_trusted else _encoding(snapshot, intact)
    run.commit(stage, shard, DISCARDED, intact, {**marker.facts, "encoding": encoding})
    lost = {file.folder for file in marker.files} - {file.folder for file in intact}
    if "pairs" in lost or (not is_trusted and encoding is None):
        return "its winners are generated again, all its scores are kept"
    if "previews" in lost:
        return "all its winners are kept, thumbnails of its losers are lost"
    return "all its winners are kept, its marker is written anew"


def _encoding(snapshot: Snapshot, files: list[StoredFile]) -> str | None:
    """How winners are encoded, from the images themselves; None if that is not known.

    Lossless images have one encoding. The quality of lossy ones is not stored in them.
    """
    for file in files:
        if file.folder == "pairs":
            try:
                formats = set(table(snapshot.load(file), pair_schema())["format"].to_pylist())
            except Flaw:
                return None
            return encoding_fact(ImageSettings(format="png")) if formats == {"png"} else None
    return None


def _reconstructed_marker(run: RunFolder, shard: int) -> Marker | None:
    """The marker of a generate shard whose own marker is damaged, from the names of files.

    An attempt that was killed leaves such files, too. So there must be one file of each kind, and
    the pairs must be exactly the winners among the candidates.
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
            if any(row_problems(candidates)):
                break
            chosen = [(row["caption_id"], row["index"]) for row in candidates if row["chosen"]]
        elif chosen != list(
            zip(rows["caption_id"].to_pylist(), rows["index"].to_pylist(), strict=True)
        ):
            break
        files.append(StoredFile(names[0], len(data), digest([data])))
    return Marker(DISCARDED, tuple(files)) if files else None
