"""The questions about captions by which images are scored: written before any is generated.

In the process that drives the run, shard by shard, once for each caption that curation kept. What
was written before is kept: only captions that no earlier pass wrote questions of are asked about,
and those that failed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from synthvlm.components.component import LoadContext
from synthvlm.components.contract import contract
from synthvlm.data import PLAIN_CAPTION
from synthvlm.errors import PluginError, RunFolderError, TooManyFailuresError
from synthvlm.models.devices import empty_caches, resolve_device, resolve_dtype
from synthvlm.run_folder.marker import question_stage
from synthvlm.scorers import SCORERS, QuestionScorer
from synthvlm.stages.curation.resources import endpoint_client
from synthvlm.stages.fingerprints import (
    image_dependencies,
    question_fingerprint,
    question_shard_fingerprint,
)
from synthvlm.stages.generation.prompts import TakenCaptions, read_prompts
from synthvlm.stages.generation.requests import Prompt

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder
    from synthvlm.scorers.base import QuestionWriter

__all__ = ["Questions", "question_schema", "read_questions", "with_questions", "write_questions"]

#: Captions of which none got a question, after which a plain one is tried.
_TRIED = 8


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions about a caption, or the problem why there are none."""

    questions: tuple[str, ...]
    problem: str | None = None


def write_questions(
    run: RunFolder,
    recipe: Recipe,
    captions: Mapping[int, Marker],
    progress: Progress,
    taken: TakenCaptions | None = None,
) -> None:
    """Bring the questions of all kept captions up to date, for each scorer that asks any.

    A caption that got none is told; its images are not generated, and the next run tries again.

    Args:
        run: The run folder.
        recipe: The recipe.
        captions: The markers of the stage curate.
        progress: Shows captions done.
        taken: Of a run with a target, the captions that count; None: all that are kept do.

    Raises:
        ModelError: A model cannot be used.
        TooManyFailuresError: More captions got no question than ``run.max_failed_share`` allows.
        SynthVLMError: A budget is used up; what was paid for is kept.
    """
    if recipe.question_scorers:
        image_dependencies(recipe)  # a model that is not there is told before questions are paid
    for scorer in recipe.question_scorers:
        with ExitStack() as resources:
            _Pass(run, recipe, scorer, resources, taken).write(captions, progress)
        empty_caches()  # the generator's models come next


def question_schema() -> pa.Schema:
    """Schema of ``questions-<scorer>/``: the questions of each kept caption, or why it has none."""
    import pyarrow as pa

    questions = pa.list_(pa.string())
    return pa.schema([("id", pa.string()), ("questions", questions), ("problem", pa.string())])


def read_questions(run: RunFolder, scorer: str, marker: Marker | None) -> dict[str, Questions]:
    """The committed questions of a shard, by the ids of captions.

    Args:
        run: The run folder.
        scorer: Whose questions they are.
        marker: Of the shard; None: there are none.
    """
    name = None if marker is None else marker.file(question_stage(scorer))
    if name is None:
        return {}
    rows = run.read_table(name).to_pylist()
    return {row["id"]: Questions(tuple(row["questions"]), row["problem"]) for row in rows}


def with_questions(
    run: RunFolder, recipe: Recipe, shard: int, prompts: Sequence[Prompt]
) -> list[Prompt]:
    """Captions of a shard with the questions about them, as far as scorers ask any.

    Raises:
        RunFolderError: The questions of the shard are not there.
    """
    asked = list(prompts)
    for scorer in recipe.question_scorers:
        written = read_questions(run, scorer, run.marker(question_stage(scorer), shard))
        for place, prompt in enumerate(asked):
            if prompt.id not in written:
                raise RunFolderError(
                    f"the questions of caption {prompt.id!r} are no longer in {run.url}: something "
                    f"removed them; run again, what is finished is kept"
                )
            own = written[prompt.id]
            problem = own.problem and f"scorer {scorer!r}: {own.problem}"
            asked[place] = replace(
                prompt,
                questions={**prompt.questions, scorer: own.questions},
                problem=prompt.problem or problem,
            )
    return asked


class _Pass:
    """A pass over all shards; what writes is loaded when a caption needs it."""

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        scorer: str,
        resources: ExitStack,
        taken: TakenCaptions | None,
    ) -> None:
        self._taken = taken
        self._run, self._recipe, self._scorer = run, recipe, scorer
        self._resources, self._stage = resources, question_stage(scorer)
        self._fingerprint = question_fingerprint(recipe, scorer)
        self._done = run.markers(self._stage)
        self._writer: QuestionWriter | None = None
        self._asked = 0

    def write(self, captions: Mapping[int, Marker], progress: Progress) -> None:
        began = time.monotonic()
        if self._taken is None:
            total = sum(int(marker.facts["kept"]) for marker in captions.values())
        else:
            total = sum(len(self._texts(shard, marker)) for shard, marker in captions.items())
        allowed = math.ceil(self._recipe.run.max_failed_share * total)
        failed, first = 0, None
        progress.start(self._stage, total, "captions")
        for shard, marker in captions.items():
            texts = self._texts(shard, marker)
            written = self._shard(shard, marker, texts)
            problems = [(id, one.problem) for id in texts if (one := written[id]).problem]
            failed, first = failed + len(problems), first or next(iter(problems), None)
            if first is not None and failed > allowed:
                raise TooManyFailuresError(
                    f"{self._stage}: {failed} captions got no question, more than "
                    f"run.max_failed_share ({self._recipe.run.max_failed_share}) allows; the "
                    f"first, {first[0]!r}: {first[1]}; fix the cause and run again, what is "
                    f"finished is kept"
                )
            progress.advance(len(texts))
        self._run.sweep(self._stage, [self._stage], self._run.markers(self._stage))
        if first is not None:
            progress.note(
                f"warning: {self._stage}: {failed} captions got no question, so that no image of "
                f"them is generated; the first, {first[0]!r}: {first[1]}; the next run tries again"
            )
        seconds = round(time.monotonic() - began, 3)
        if self._asked:
            self._run.event("stage", stage=self._stage, seconds=seconds, rows=self._asked)
            line = f"questions of {self._asked:,} captions written ({seconds:.1f} s)"
            progress.finish(self._stage, line)

    def _texts(self, shard: int, captions: Marker) -> dict[str, str]:
        """The captions of a shard that are to have questions, by their ids."""
        prompts = read_prompts(self._run, shard, captions, "", self._taken)
        return {prompt.id: prompt.text for prompt in prompts}

    def _shard(
        self, shard: int, captions: Marker, texts: Mapping[str, str]
    ) -> Mapping[str, Questions]:
        """Write what is missing of a shard, and commit it."""
        expected = question_shard_fingerprint(self._fingerprint, captions)
        marker = self._done.get(shard)
        if marker is not None and marker.fingerprint != expected:
            marker = None
        known = read_questions(self._run, self._scorer, marker)
        missing = {id: text for id, text in texts.items() if id not in known or known[id].problem}
        if missing:
            known |= self._write(missing)
        if missing or marker is None:
            self._commit(shard, expected, known)
        return known

    def _write(self, texts: Mapping[str, str]) -> dict[str, Questions]:
        if self._writer is None:
            self._writer = self._load()
        is_first = not self._asked
        if is_first and len(texts) > _TRIED:
            self._try(list(texts.values())[:_TRIED])
        self._asked += len(texts)
        return dict(zip(texts, self._ask(list(texts.values())), strict=True))

    def _ask(self, texts: list[str]) -> list[Questions]:
        assert self._writer is not None
        with contract("scorer", self._scorer):
            written = [Questions(tuple(w.questions), w.problem) for w in self._writer.write(texts)]
        if len(written) != len(texts):
            raise PluginError(
                f"scorer {self._scorer!r}: it wrote questions of {len(written)} captions, not "
                f"{len(texts)}"
            )
        problem = "the writer wrote no question"
        return [w if w.questions or w.problem else Questions((), problem) for w in written]

    def _try(self, texts: list[str]) -> None:
        """Stop where none of a few captions gets a question, nor a plain one in their place."""
        if all(one.problem for one in self._ask(texts)):
            (one,) = self._ask([PLAIN_CAPTION])
            if one.problem:
                raise TooManyFailuresError(
                    f"{self._stage}: no caption gets a question, not even {PLAIN_CAPTION!r}: "
                    f"{one.problem}; fix the cause and run again"
                )

    def _load(self) -> QuestionWriter:
        component, run = SCORERS[self._scorer], self._run
        assert issubclass(component, QuestionScorer)
        device = resolve_device(self._recipe.run.device)
        context = LoadContext(
            device=device,
            dtype=resolve_dtype("auto", device),
            resources=self._resources,
            endpoint_client=lambda endpoint, model, where: endpoint_client(
                run, endpoint, model, where, self._resources
            ),
        )
        with contract("scorer", self._scorer):
            return component.load_writer(self._recipe.scorers[self._scorer], context)

    def _commit(self, shard: int, expected: str, known: Mapping[str, Questions]) -> None:
        import pyarrow as pa

        columns = {
            "id": list(known),
            "questions": [list(one.questions) for one in known.values()],
            "problem": [one.problem for one in known.values()],
        }
        table = pa.Table.from_pydict(columns, question_schema())
        file = self._run.write_table(self._stage, shard, table)
        self._run.commit(self._stage, shard, expected, [file], {"captions": len(known)})
