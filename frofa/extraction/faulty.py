"""Items that a custom encoder cannot encode, found and named one by one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from frofa.backbones.outputs import Computed
from frofa.decoding.task import DecodeTask, failure
from frofa.exceptions import EncoderCallError, ImageReadError
from frofa.extraction.batches import Batch
from frofa.extraction.engine import Arrived, Engine


@dataclass(frozen=True)
class Faulty:
    """Looks at each batch of a run, before and after.

    Attributes
    ----------
    engine : Engine
    tasks : sequence of DecodeTask
        All of the run.
    fail : callable
        Gets each item that cannot be encoded.
    """

    engine: Engine
    tasks: Sequence[DecodeTask]
    fail: Callable[[ImageReadError], None]

    def launch(self, batch: Batch) -> tuple[Arrived, Batch]:
        """Begin the forward pass; where the encoder raises an error, without the items it raises one for."""
        try:
            return self.engine.launch(batch.pixels), batch
        except EncoderCallError as error:
            sound = [row for row in range(len(batch.positions)) if self._is_sound(batch, row)]
            if not sound:
                return list, Batch([], batch.pixels[:0], batch.release)
            if len(sound) == len(batch.positions):
                raise error  # of the batch as such
        kept = Batch([batch.positions[row] for row in sound], batch.pixels[sound], batch.release)
        return self.engine.launch(kept.pixels), kept

    def leave_out(self, positions: list[int], features: list[Computed]) -> tuple[list[int], list[Computed]]:
        """Features without those that are no numbers."""
        faults = self.engine.backbone.faults(features) if positions else {}
        for row, reason in faults.items():
            self._name(positions[row], ValueError(reason))
        if not faults:
            return positions, features
        sound = [row for row in range(len(positions)) if row not in faults]
        return [positions[row] for row in sound], [values[sound] for values in features]

    def _is_sound(self, batch: Batch, row: int) -> bool:
        try:
            self.engine.launch(batch.pixels[row : row + 1])()
        except EncoderCallError as error:
            cause = error.__cause__
            self._name(batch.positions[row], cause if isinstance(cause, Exception) else error)
            return False
        return True

    def _name(self, position: int, error: Exception) -> None:
        [task] = (task for task in self.tasks if task.position == position)
        self.fail(failure(task, error))
