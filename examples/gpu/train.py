"""Train on one GPU, several GPUs, or several machines; also on CPUs.

    python examples/gpu/train.py mnist --data-root DATA --out out/mnist            # one GPU
    python examples/gpu/train.py cifar10 --data-root DATA --devices 4 --workers 4  # four GPUs
    torchrun --nproc-per-node 4 examples/gpu/train.py cifar10 --data-root DATA     # the same
    python examples/gpu/train.py digits --quick --devices 2 --device cpu           # a try, seconds

It trains floats from new weights on all training samples, whatever a recipe is for: biril train has --from,
--integers and --validation.
SLURM: examples/gpu/slurm.sh. Interrupted? Run it again, with as many processes as you like: it resumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import biril_nm as bnm
from biril_nm.data import load_data, make_loaders
from biril_nm.errors import BirilError
from biril_nm.training import Callback
from biril_nm.training.run_config import CONFIG, RunConfig
from biril_nm.training.world import leads


class Report(Callback):
    """One line per epoch; process 0 alone is asked."""

    def on_epoch_end(self, record: dict[str, Any]) -> None:
        accuracy, seconds = record["test_accuracy"], record["seconds"]
        print(
            f"epoch {record['epoch']} {record['phase']}: {accuracy:.2%}, {seconds:.0f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", help="digits, mnist, cifar10, dvs128_gesture, ...")
    parser.add_argument("--data-root", default=None)
    parser.add_argument("--recipe", default=None, help="default: that of the data set")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--devices", type=int, default=1, help="GPUs of each machine")
    parser.add_argument("--nodes", type=int, default=1, help="machines")
    parser.add_argument("--workers", type=int, default=0, help="processes that read data")
    parser.add_argument("--quick", action="store_true", help="a few samples and epochs")
    args = parser.parse_args()

    try:
        train(args)
    except BirilError as error:
        raise SystemExit(f"error: {error}") from None


def train(args: argparse.Namespace) -> None:
    run = RunConfig.make(recipe=args.recipe, dataset=args.dataset)
    data = load_data(run.dataset, args.data_root)
    if args.quick:
        data, run = data.head(200, 100), run.with_options(epochs=2)
    places = {"device": args.device, "devices": args.devices, "nodes": args.nodes}
    run = run.with_options(**places, keep="last").with_data(data)  # no validation samples

    net = bnm.build_model(run.model, run.net, run.seed)
    loaders = make_loaders(
        data, run.batch_size, run.seed, run.crop_pad, augment=run.augment, workers=args.workers
    )
    bnm.fit(net, loaders, run.train, [Report()], args.out, resume=True)
    if leads():
        run.write(args.out / CONFIG)
        print(
            f"saved {args.out / 'model.pt'}; next: biril-export {args.out / 'model.pt'} --to lava"
        )


if __name__ == "__main__":
    main()
