#!/usr/bin/env bash
# The whole path on scikit-learn's digits: train with STDP, STBP and STDP-STBP phases, export,
# simulate on integers, compare with Lava, run the Lava bundle, write a report.
# Usage: examples/demo.sh [OUTPUT_FOLDER]   (make demo)
set -euo pipefail
OUT="${1:-out/demo}"
step() { printf '\n== %s\n' "$*"; }

step "1. train a convolutional network: 2 B (STBP), 1 S (STDP), 2 B, 1 H (both)"
biril train --dataset digits --model convnet --schedule BBSBBH --epochs 12 --out "$OUT" --force

step "2. float accuracy (torch)"
biril eval "$OUT/model.pt" --dataset digits

step "3. export: NIR, integers, Lava"
biril export "$OUT/model.pt" --to nir -o "$OUT/model.nir" --force
biril export "$OUT/model.pt" --to loihi -o "$OUT/model.loihi.npz" --force
biril-export "$OUT/model.pt" --to lava -o "$OUT/lava" --dataset digits --force >/dev/null
echo "wrote $OUT/lava"

step "4. integer accuracy (simulator)"
biril eval "$OUT/model.loihi.npz" --dataset digits

step "5. parity of torch, simulator and Lava on 20 samples"
biril parity "$OUT/model.pt" --dataset digits --samples 20

step "6. the Lava bundle by itself"
python "$OUT/lava/run_lava.py"

step "7. report"
biril report "$OUT" --dataset digits --samples 20 --force
