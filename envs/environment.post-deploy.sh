#!/usr/bin/env bash
# Snakemake runs this in the environment it made from environment.yaml.
set -euo pipefail
pip install --quiet --require-hashes -r "${MISTLINE_ROOT:?is set by workflow/rules/common.smk}/envs/requirements.lock"
