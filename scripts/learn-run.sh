#!/usr/bin/env bash
# Learning runs side by side on one GPU, in a bounded time: bash learn-run.sh SECONDS [LANE ...], in the folder that learn-pack.sh
# filled. Lanes: text | digits, then each speaker left out | pixels: sequential, then permuted MNIST | series: the twenty ETT
# settings | rates and rates_s4d: digits at several sampling rates | univariate: the ten univariate ETT settings, small, on the CPU.
# What they made comes to $OUT as tar files.
set -uo pipefail
seconds=${1:-520}
shift
wanted=("$@")
((${#wanted[@]})) || wanted=(text digits pixels series)
began=$(date +%s)
cd "$(dirname "$0")"
work=${WORK:-/tmp/s4-learn}
device=${DEVICE:-cuda}
extra=${EXTRA:-}
mkdir -p "$work/runs" "$work/logs"
xz -dc node.xz >"$work/node" & tar -xJf tree.tar.xz -C "$work" & tar -xJf small.tar.xz -C "$work" &
[ ! -f acl.tar.xz ] || tar -xJf acl.tar.xz -C "$work" &
wait
chmod +x "$work/node"
cd "$work"
echo "unpacked after $(($(date +%s) - began)) s"; nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || true

left() { echo $((began + seconds - $(date +%s))); }
# go NAME RECIPE MOST_SECONDS ARGUMENTS...: one run, within what is left.
go() {
  local name=$1 recipe=$2 most=$3 have; shift 3
  have=$(left); if ((most > have)); then most=$have; fi
  if ((most < 12)); then echo "$name: no time left"; return; fi
  timeout -k 5 $((most + 25)) ./node scripts/recipe.mjs "$recipe" --data . --out "runs/$name" --device "$device" \
    --minutes "$(awk "BEGIN{print $most / 60}")" "$@" $extra >"logs/$name.log" 2>&1 || echo "$name: ended with $?"
}
text() {
  go text lra-text-short 470 --evaluate-every 2
  if (($(left) > 100)); then go text-published lra-text "$(left)" --set train.bucket=24 --evaluate-every 4; fi
}
digits() {
  go digits digits 260 --evaluate-every 5
  local speakers=(george jackson lucas nicolas theo yweweler) n=6
  for speaker in "${speakers[@]}"; do
    go "digits-without-$speaker" digits $(($(left) / n)) --set "data.leaveOut=$speaker" --set train.epochs=20 --evaluate-every 10
    n=$((n - 1))
  done
}
pixels() {
  go smnist smnist 200 --data mnist --evaluate-every 5
  go pmnist pmnist 270 --data mnist --evaluate-every 5
}
series() {
  local n=20
  for file in ETTh1 ETTh2; do for variables in univariate multivariate; do for horizon in 24 48 168 336 720; do
    go "ett-$file-$variables-$horizon" "ett-$variables" $(($(left) / n)) --set "data.file=$file.csv" --set "data.horizon=$horizon"
    n=$((n - 1))
  done; done; done
}
rates() { go digits-rates digits-rates $(($(left) - 8)) --evaluate-every 10; }
rates_s4d() { go digits-rates-s4d digits-rates-s4d $(($(left) - 8)) --evaluate-every 10; }
univariate() {
  for file in ETTh1 ETTh2; do for horizon in 24 48 168 336 720; do
    (
      device=cpu
      renice -n 10 $BASHPID >/dev/null
      go "small-$file-univariate-$horizon" ett-univariate-small $(($(left) - 12)) --set model.threads=1 \
        --set "data.file=$file.csv" --set "data.horizon=$horizon"
    ) &
  done; done
  wait
}
lanes=()
for lane in "${wanted[@]}"; do "$lane" & lanes+=($!); done
alive() { for lane in "${lanes[@]}"; do kill -0 "$lane" 2>/dev/null && return 0; done; return 1; }
while alive && (($(left) > -28)); do sleep 1; done
echo "ended after $(($(date +%s) - began)) s"
tar -czf "$OUT/histories.tgz" logs runs/*/history.jsonl runs/*/result.json
list() { ls -d "$@" 2>/dev/null; }
tar -cf - $(list runs/{text,digits,digits-rates*,smnist,pmnist}/*.safetensors) | split -b 15m -d - "$OUT/main.tar."
tar -cf - $(list runs/text-published/last.safetensors runs/digits-without-*/final.safetensors runs/*ett*/best.safetensors runs/small-*/best.safetensors) |
  split -b 15m -d - "$OUT/more.tar."
ls -l "$OUT"
for log in logs/*.log; do echo "$(basename "$log" .log): $(tail -n 1 "$log" | cut -c1-220)"; done
