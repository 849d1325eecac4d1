#!/bin/sh
# Real text: film reviews pulled towards gladness. Usage: sh docs/results/reviews.sh REVIEWS.jsonl.gz OUT
# REVIEWS holds {"text": …} rows, e.g. Pang & Lee's sentence polarity set (hf:cornell-movie-review-data/rotten_tomatoes).
set -eu
REVIEWS=$1 OUT=$2
heedful world reviews --source "$REVIEWS" --out "$OUT/data"
heedful train pretrain --data "$OUT/data/text.jsonl" --out "$OUT/pretrain" --hidden-size 192 --heads 6 --steps 1600 --learning-rate 3e-3
heedful train sft --model "$OUT/pretrain" --data "$OUT/data/demonstrations.jsonl" --out "$OUT/sft" --learning-rate 3e-4
heedful sample --model "$OUT/sft" --data "$OUT/data/prompts.jsonl" --out "$OUT/samples.jsonl" --n 4 --limit 3000
heedful judge --data "$OUT/samples.jsonl" --judge reviews --out "$OUT/comparisons.jsonl"
heedful train reward --model "$OUT/sft" --data "$OUT/comparisons.jsonl" --out "$OUT/reward" --learning-rate 5e-4 --epochs 2
heedful train dpo --model "$OUT/sft" --data "$OUT/comparisons.jsonl" --out "$OUT/dpo" --learning-rate 2e-4
heedful train ppo --model "$OUT/sft" --reward "$OUT/reward" --data "$OUT/data/prompts.jsonl" --out "$OUT/ppo" \
    --steps 40 --inner-epochs 2 --beta 0.1 --learning-rate 3e-4 --critic-learning-rate 1e-3
common="--data $OUT/data/held_out.jsonl --scorer reviews --reward $OUT/reward --limit 500"
heedful evaluate --model "$OUT/sft" $common --reference "$OUT/sft" --out "$OUT/eval/sft"
for method in dpo ppo; do
    heedful evaluate --model "$OUT/$method" $common --reference "$OUT/sft" \
        --baseline "$OUT/eval/sft/samples.jsonl" --out "$OUT/eval/$method"
done
heedful evaluate --model "$OUT/sft" $common --best-of 16 --seed 1 \
    --baseline "$OUT/eval/sft/samples.jsonl" --out "$OUT/eval/best_of_16"
