"""``python -m train.sft.watched_end ...`` is ``stvla ...`` that says how many distributed models its processes' group outlives."""

import gc
import sys

from accelerate import Accelerator
from torch.nn.parallel import DistributedDataParallel

from stvla_ros.cli import main

end_training = Accelerator.end_training


def counted(accelerator: Accelerator) -> None:
    found = sum(isinstance(thing, DistributedDataParallel) for thing in gc.get_objects())
    print(f"distributed models at the end: {found}", flush=True)
    end_training(accelerator)


Accelerator.end_training = counted
sys.exit(main(sys.argv[1:]))
