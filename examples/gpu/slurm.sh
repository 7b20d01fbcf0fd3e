#!/usr/bin/env bash
# Two machines with four GPUs each: sbatch examples/gpu/slurm.sh cifar10 DATA
# SLURM starts one process for each GPU. It may be stopped at any time: submitted again, it resumes.
#SBATCH --job-name=biril
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail
srun python examples/gpu/train.py "$1" --data-root "$2" --out "out/$1" \
  --devices "$SLURM_NTASKS_PER_NODE" --nodes "$SLURM_JOB_NUM_NODES" --workers 4
