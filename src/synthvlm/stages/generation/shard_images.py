"""The images of a shard: pixels until a caption's winner is known, then its encoded image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from synthvlm.data import WITH_IMAGE, Pair, Preview, is_sampled
from synthvlm.stages.generation.candidate_plan import CandidatePlan, Key
from synthvlm.stages.generation.pixels import decode, encoding_fact, pair_of, thumbnail

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.stages.generation.calibrate import Calibration
    from synthvlm.stages.generation.requests import ScoredImage
    from synthvlm.stages.generation.stored_images import PreviousShard

__all__ = ["ShardImages"]


class ShardImages:
    """Holds the best images of each caption, encodes the winner, and makes thumbnails.

    Held is one image of a caption that is being generated, or as many as it has finalists.

    Attributes:
        encoding: How winners are encoded, see ``pixels.encoding_fact``.
        pairs: The winner of each caption, by its id.
        previews: Thumbnails of losing candidates.
    """

    def __init__(
        self,
        recipe: Recipe,
        plan: CandidatePlan,
        previous: PreviousShard,
        calibration: Calibration,
        calibrated_pairs: Mapping[Key, Pair],
        in_background: Callable[..., Future[Any]],
    ) -> None:
        """Hold nothing yet.

        Args:
            recipe: The recipe.
            plan: The candidates of the shard, as far as they are known.
            previous: What an earlier attempt left.
            calibration: The candidates of its sample.
            calibrated_pairs: Best images of the sample, those that are encoded as they should be.
            in_background: Does CPU work on another thread.
        """
        self._settings, self._plan, self._previous = recipe.generation.image, plan, previous
        self._calibrated, self._calibrated_pairs = calibration.candidates, calibrated_pairs
        self._in_background = in_background
        self.encoding = encoding_fact(self._settings)
        share = recipe.report.preview_share
        self._previewed = {id for id in plan.rows if is_sampled(id, share)}
        self._most_held = recipe.finalists or 1
        self._held: dict[str, dict[int, ScoredImage]] = {}
        self.pairs: dict[str, Future[Pair]] = {}
        known = ((id, index) for id, rows in plan.rows.items() for index in rows)
        self.previews = {key: previous.previews[key] for key in known if key in previous.previews}

    def add(self, image: ScoredImage) -> None:
        """Hold an image, whose row is recorded, if it is among the best of its caption so far."""
        if image.pixels is None:
            return
        id, index = image.request.id, image.request.index
        if id in self._previewed:
            self.previews[id, index] = Preview(id, index, thumbnail(image.pixels))
        rows = self._plan.rows[id]
        if not self._plan.may_win(rows[index]):
            return
        held = self._held.setdefault(id, {})
        held[index] = image
        if len(held) > self._most_held:
            del held[max(held, key=lambda n: self._plan.first_rank(rows[n]))]

    def held(self, id: str, index: int) -> ScoredImage | None:
        """A candidate with its pixels, if it is held."""
        return self._held.get(id, {}).get(index)

    def hold(self, image: ScoredImage) -> None:
        """Hold an image whatever its row says: a finalist that was generated again, or scored."""
        self._held.setdefault(image.request.id, {})[image.request.index] = image

    def drop(self, id: str, index: int) -> None:
        """Hold a candidate no longer."""
        self._held.get(id, {}).pop(index, None)

    def encode_if_winner(self, id: str) -> None:
        """Encode the winner of a caption if it is held, and release the others."""
        held = self._held.pop(id, {})
        winner = self._plan.winner(id)
        if winner in held:
            self.encode(held[winner])
            return
        # An image that cannot be made again is kept: its caption may yet need it.
        irreproducible = {index: image for index, image in held.items() if not image.reproducible}
        if irreproducible:
            self._held[id] = irreproducible

    def encode(self, image: ScoredImage) -> None:
        """Encode a winner."""
        self.pairs[image.request.id] = self._in_background(pair_of, image, self._settings)

    def has_winner(self, id: str, winner: int) -> bool:
        """Whether the winner of a caption is encoded, here or by an earlier attempt."""
        if id in self.pairs:
            return True
        stored_pair = self._stored_pair((id, winner))
        if stored_pair is None:
            return False
        self.pairs[id] = Future()
        self.pairs[id].set_result(stored_pair)
        self._held.pop(id, None)
        return True

    def _stored_pair(self, key: Key) -> Pair | None:
        """The image of a winner that an earlier attempt, or the calibration, has encoded."""
        if key in self._previous.pairs and self._previous.encoding == self.encoding:
            return self._previous.pairs[key]
        calibrated = self._calibrated.get(key)
        # Where the seed does not determine the image, its scores tell whether it is the same.
        if calibrated is None or calibrated.scores != self._plan.rows[key[0]][key[1]].scores:
            return None
        return self._calibrated_pairs.get(key)

    def finished_pairs(self, ids: Iterable[str]) -> list[Pair]:
        """The encoded winners, in the order of their captions."""
        return [self.pairs[id].result() for id in ids if id in self.pairs]

    def preview_losers(self, id: str, winner: int | None) -> None:
        """Keep thumbnails of a caption's losers only, an earlier winner that lost among them."""
        if winner is not None:
            self.previews.pop((id, winner), None)
        if id not in self._previewed:
            return
        for index, row in self._plan.rows[id].items():
            pair = self._previous.pairs.get((id, index))
            previous = self._previous.candidates.get((id, index))
            if pair is None or previous is None or previous.fingerprint != row.fingerprint:
                continue
            is_loser = row.status in WITH_IMAGE and index != winner
            if is_loser and (id, index) not in self.previews:
                self.previews[id, index] = Preview(id, index, thumbnail(decode(pair.image)))
