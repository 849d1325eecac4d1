#!/bin/sh
# Forms of reward models on real human comparisons by cross-validation, beside length and n-grams.
# Usage: sh docs/results/reward_forms.sh COMPARISONS.jsonl.gz OUT
# COMPARISONS holds {"chosen", "rejected"} transcripts, e.g. Anthropic's harmless-base (hf:Anthropic/hh-rlhf).
set -eu
COMPARISONS=$1 OUT=$2
mkdir -p "$OUT"
# A language model of the text of one third of the prompts; the comparisons of the others are what is predicted.
python - "$COMPARISONS" "$OUT" <<'PY'
import sys
from pathlib import Path
from heedful.data.sources import prompt_columns, prompt_text, read_comparisons, split_by_prompt, write_rows
every, out = read_comparisons(sys.argv[1], skip_bad=True), Path(sys.argv[2])
rest, read = split_by_prompt(every, lambda c: c.prompt, 1 / 3)
write_rows(out / "text.jsonl", ({"text": f"{prompt_text(c.prompt)}\nassistant: {r}"} for c in read for r in c.responses))
write_rows(out / "comparisons.jsonl", (
    prompt_columns(c.prompt) | {"responses": [*c.responses], "ranking": [*c.ranking]} for c in rest))
PY
heedful train pretrain --data "$OUT/text.jsonl" --out "$OUT/pretrain" --context 128 --hidden-size 64 --layers 2 \
    --heads 2 --vocab-size 2000 --steps 400 --pack-length 128 --batch-size 8 --learning-rate 3e-3 --quiet --report-to none
heedful compare rewards --model "$OUT/pretrain" --data "$OUT/comparisons.jsonl" --out "$OUT/forms" \
    --strength 0.8 --on-bad-row cut --epochs 1 --learning-rate 1e-3 --quiet
cp "$OUT/forms/rewards.json" "$OUT/rewards.json"
