#!/bin/sh
# Real human comparisons: a reward model on HH-RLHF. Usage: sh docs/results/harmless.sh COMPARISONS.jsonl.gz OUT
# COMPARISONS holds {"chosen", "rejected"} transcripts, e.g. Anthropic's harmless-base (hf:Anthropic/hh-rlhf).
set -eu
COMPARISONS=$1 OUT=$2
mkdir -p "$OUT"
# The text of the training prompts alone, so that the held-out ones stay unseen from the first token on.
python - "$COMPARISONS" "$OUT/text.jsonl" <<'PY'
import sys
from heedful.data.sources import prompt_text, read_comparisons, split_by_prompt, write_rows
train, _ = split_by_prompt(read_comparisons(sys.argv[1], skip_bad=True), lambda c: c.prompt, 0.25)
write_rows(sys.argv[2], ({"text": f"{prompt_text(c.prompt)}\nassistant: {r}"} for c in train for r in c.responses))
PY
heedful train pretrain --data "$OUT/text.jsonl" --out "$OUT/pretrain" --context 2048 \
    --steps 800 --pack-length 256 --batch-size 4 --learning-rate 3e-3
heedful baselines --data "$COMPARISONS" --held-out 0.25 --on-bad-row drop > "$OUT/baselines.json"
for seed in 0 1; do
    heedful train reward --model "$OUT/pretrain" --data "$COMPARISONS" --out "$OUT/reward-$seed" --seed $seed \
        --held-out 0.25 --on-bad-row drop --epochs 1 --learning-rate 3e-4 --weight-decay 0.1
done
