#!/usr/bin/env bash
# Learning runs side by side on one GPU, in a bounded time: bash learn-run.sh SECONDS [LANE ...], in the folder that learn-pack.sh
# filled. Lanes run side by side, and the parts of a lane, joined by +, one after another. Parts: text | text_again: with the published
# dropout, if text has missed | text_published: the published dropout and 15 epochs | pathfinder | listops | image | ablation_legs,
# ablation_random and ablation_diagonal: three initialisations | digits, then each speaker left out | pixels: sequential, then permuted
# MNIST | series: the twenty ETT settings | rates and rates_s4d: digits at several sampling rates | univariate: the ten univariate ETT
# settings, small, on the CPU | image_ranks: as image, on several GPUs (RANKS) | scifar | pathx, and pathx_data before it: its PATHX_PICTURES pictures alone | density and density_peer: MNIST pixel by pixel, then the Transformer of benches/peers for as long |
# language and language_peer: words (WikiText-2 where its pack is, else IMDB's reviews) | generation: tokens a second, beside the Transformer |
# precisions: reviews, 3,124 updates in 'highest' from three seeds, in 'high' and in 'bf16'; precisions_highest: the further two seeds alone, precisions_first: the others.
# What they made comes to $OUT as tar files.
# AHEAD: seconds of a later call on the same machine, over which pathfinder and listops draw their curves too; what one call leaves
# unfinished the next one takes on, what is finished it leaves. IMAGE, SCIFAR, PATHX: further arguments of those runs. DENSITY_MORE: of the density run. DENSITY, LANGUAGE: seconds of those
# runs; the peer gets as many as ours took, or PEER_SECONDS where the two run side by side. PEER: further arguments of the peers. PYTHON: a Python that has PyTorch.
set -uo pipefail
seconds=${1:-520}
shift
wanted=("$@")
((${#wanted[@]})) || wanted=(text digits pixels series)
began=$(date +%s)
cd "$(dirname "$0")"
here=$PWD
work=${WORK:-/tmp/s4-learn}
device=${DEVICE:-cuda}
extra=${EXTRA:-}
ahead=${AHEAD:-0}
mkdir -p "$work/runs" "$work/logs"
# NODE: a Node that is there already.
if [ -n "${NODE:-}" ]; then cp "$NODE" "$work/node.new"; else xz -dc node.xz >"$work/node.new"; fi && chmod +x "$work/node.new" && mv "$work/node.new" "$work/node" &
tools=($!)
# Data are many small files: who needs them waits for them, and a later call finds them there.
for pack in *.tar.xz; do
  name=${pack%.tar.xz}
  case $name in
    acl | cifar | greycifar | small | mnist | words | wikitext) [ -f "$work/$name.there" ] || (tar -xJf "$pack" -C "$work" && touch "$work/$name.there") & ;;
    *) tar -xJf "$pack" -C "$work" & tools+=($!) ;;
  esac
done
wait "${tools[@]}"
cd "$work"
echo "unpacked after $(($(date +%s) - began)) s"; nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || true

left() { echo $((began + seconds - $(date +%s))); }
# there PACK: its data have been unpacked.
there() { while [ ! -f "$work/$1.there" ] && (($(left) > 0)); do sleep 0.5; done; }
# go NAME RECIPE MOST_SECONDS ARGUMENTS...: one run, or the rest of it, within what is left.
go() {
  local name=$1 recipe=$2 most=$3 have; shift 3
  [ ! -f "runs/$name/result.json" ] || return 0
  have=$(left); if ((most > have)); then most=$have; fi
  if ((most < 12)); then echo "$name: no time left"; return; fi
  timeout -k 5 $((most + 25)) ./node scripts/recipe.mjs "$recipe" --data . --out "runs/$name" --device "$device" --resume \
    --checkpoint-every 45 --minutes "$(awk "BEGIN{print $most / 60}")" "$@" $extra >>"logs/$name.log" 2>&1 || echo "$name: ended with $?"
}
# through NAME RECIPE ARGUMENTS...: a run whose curve reaches over this call and the later one.
through() {
  local name=$1 recipe=$2; shift 2
  if ((ahead > 0)); then go "$name" "$recipe" $(($(left) - 12)) --ahead "$(awk "BEGIN{print $ahead / 60}")" "$@"
  else go "$name" "$recipe" $(($(left) - 20)) "$@"; fi
}
# made TASK CALL: the generators' files, unless they are there; CALL is JavaScript after the import.
made() {
  [ ! -d "$1" ] || return 0
  ./node --input-type=module -e "import * as files from './cli/dist/src/taskfiles.js'; $2" >>"logs/data-$1.log" 2>&1 &&
    mv "$1.part" "$1" && echo "$1: data after $(($(date +%s) - began)) s"
}
text() { there acl; go text lra-text-short $(($(left) - 20)) --evaluate-every 4; }
text_again() {
  grep -o '"accuracy": [0-9.]*' runs/text/result.json | head -n 1 | awk '{exit !($2 < .872)}' || return 0
  there acl
  go text-published-dropout lra-text $(($(left) - 20)) --set train.bucket=4 --set train.epochs=15 --set train.evaluateLast=3 --evaluate-every 4
}
text_published() {
  there acl
  through text-published-15 lra-text --set train.bucket=4 --set train.epochs=15 --set train.evaluateLast=3 --evaluate-every 4
}
pathfinder() {
  made pathfinder "await files.writePictures('pathfinder.part', 'pathfinder', ${PICTURES:-200000}, 42)" || echo "pathfinder: no data"
  through pathfinder lra-pathfinder-short
}
listops() {
  made listops "await files.writeListOps('listops.part', { train: ${TREES:-96000}, validation: 2000, test: 2000 }, 42)" || echo "listops: no data"
  through listops lra-listops-short
}
# CIFAR-10 for grey pictures: as its files are, or, where that pack is there, grey and without loss. It sets `data`.
pictures() {
  data=(--data .)
  [ -f "$here/greycifar.tar.xz" ] || { there cifar; return; }
  there greycifar
  data=(--data grey)
  [ -d grey ] || { ./node scripts/learn-pack.mjs uncifar greycifar grey.part/cifar10 && mv grey.part grey; } || echo "grey pictures: not unpacked"
}
# Whichever lane comes first takes it.
image() {
  mkdir "$work/image.$began" 2>/dev/null || return 0
  pictures
  # shellcheck disable=SC2086
  through image lra-image-short "${data[@]}" --evaluate-every 2 ${IMAGE:-}
}
# ranked NAME RECIPE ARGUMENTS...: a run, or the rest of it, on RANKS GPUs (2), each with its part of every batch. Ranks end behind an
# epoch: PAUSE_AFTER, which a call's time does not choose for them.
ranked() {
  local name=$1 recipe=$2 rank own=(); shift 2
  [ ! -f "runs/$name/result.json" ] || return 0
  S4_NCCL_LIBRARY=${S4_NCCL_LIBRARY:-$("${PYTHON:-python3}" -c 'import os, nvidia.nccl as n; print(os.path.join(list(n.__path__)[0], "lib/libnccl.so.2"))')}
  export S4_NCCL_LIBRARY WORLD_SIZE=${RANKS:-2} MASTER_ADDR=127.0.0.1 MASTER_PORT=29511
  for ((rank = 0; rank < WORLD_SIZE; rank++)); do
    RANK=$rank LOCAL_RANK=$rank timeout -k 5 $(($(left) + 10)) ./node scripts/recipe.mjs "$recipe" --data . --out "runs/$name" --resume \
      --checkpoint-every 45 ${PAUSE_AFTER:+--pause-after "$PAUSE_AFTER"} "$@" $extra >>"logs/$name-$rank.log" 2>&1 &
    own+=($!)
  done
  wait "${own[@]}" || echo "$name: a rank ended with $?"
}
image_ranks() { pictures; ranked image lra-image-short "${data[@]}" --evaluate-every 4 ${IMAGE:-}; }
scifar() {
  there cifar
  # shellcheck disable=SC2086
  through scifar scifar-short --evaluate-every 5 ${SCIFAR:-}
}
pathx_data() {
  made pathx "await files.writePictures('pathx.part', 'pathx', ${PATHX_PICTURES:-200000}, 42)" || echo "pathx: no data"
}
pathx() {
  pathx_data
  # shellcheck disable=SC2086
  through pathx lra-pathx ${PATHX:-}
}
ablation_of() {
  there cifar
  through "ablation-$1" scifar-ablation --evaluate-every 5 "${@:2}"
}
ablation_legs() { ablation_of legs; }
ablation_random() { ablation_of random --set model.init=random; }
ablation_diagonal() { ablation_of diagonal --set model.init=random --set model.mode=s4d; }
digits() {
  there small
  go digits digits 260 --evaluate-every 5
  local speakers=(george jackson lucas nicolas theo yweweler) n=6
  for speaker in "${speakers[@]}"; do
    go "digits-without-$speaker" digits $(($(left) / n)) --set "data.leaveOut=$speaker" --set train.epochs=20 --evaluate-every 10
    n=$((n - 1))
  done
}
pixels() {
  there small
  go smnist smnist 200 --data mnist --evaluate-every 5
  go pmnist pmnist 270 --data mnist --evaluate-every 5
}
series() {
  there small
  local n=20
  for file in ETTh1 ETTh2; do for variables in univariate multivariate; do for horizon in 24 48 168 336 720; do
    go "ett-$file-$variables-$horizon" "ett-$variables" $(($(left) / n)) --set "data.file=$file.csv" --set "data.horizon=$horizon"
    n=$((n - 1))
  done; done; done
}
rates() { there small; go digits-rates digits-rates $(($(left) - 8)) --evaluate-every 10; }
rates_s4d() { there small; go digits-rates-s4d digits-rates-s4d $(($(left) - 8)) --evaluate-every 10; }
univariate() {
  there small
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
# peer NAME RECIPE ARGUMENTS...: the Transformer of a recipe, for as many seconds as the run NAME took.
peer() {
  local name=$1 recipe=$2 most; shift 2
  [ ! -f "runs/$name-peer/result.json" ] || return 0
  most=${PEER_SECONDS:-$(grep -o '"minutes": [0-9.]*' "runs/$name/result.json" | awk '{printf "%d", $2 * 60 + .5}')}
  if ((${most:-0} == 0)); then echo "$name-peer: $name has no result"; return; fi
  if ((most > $(left) - 20)); then echo "$name-peer: no time left for $most s"; return; fi
  # shellcheck disable=SC2086
  timeout -k 5 $((most + 120)) "${PYTHON:-python3}" benches/peers/transformer.py "recipes/$recipe.json" --out "runs/$name-peer" --seconds "$most" \
    "$@" ${PEER:-} >>"logs/$name-peer.log" 2>&1 || echo "$name-peer: ended with $?"
}
# precision PRECISION SEED: whether learning suffers from it, against other seeds of 'highest'.
precision() {
  there acl
  go "precision-$1-$2" lra-text-short $(($(left) - 10)) --set "model.precision=$1" --seed "$2" --set train.epochs=2 --set train.evaluateLast=1 --evaluate-every 1
}
precisions_first() { precision highest 1; precision high 1; precision bf16 1; }
precisions_highest() { precision highest 2; precision highest 3; }
precisions() { precisions_first; precisions_highest; }
density() { there mnist; go density-mnist density-mnist-short "${DENSITY:-90}" --data mnist ${DENSITY_MORE:-}; cp runs/density-mnist/samples.png "$OUT/density-samples.png" || true; }
density_peer() { there mnist; peer density-mnist density-mnist-short --data mnist; }
# text_of_language: the recipe and the folder of the pack that is there.
text_of_language() { if [ -f "$here/wikitext.tar.xz" ]; then there wikitext; language=(wikitext2-short wikitext-2); else there words; language=(imdb-words imdb-words); fi; }
language() { text_of_language; go "${language[0]}" "${language[0]}" "${LANGUAGE:-118}" --data "${language[1]}"; }
language_peer() { text_of_language; peer "${language[0]}" "${language[0]}" --data "${language[1]}"; }
generation() {
  [ ! -f runs/generation/result.json ] || return 0
  mkdir -p runs/generation
  # shellcheck disable=SC2086
  timeout -k 5 $(($(left) > 10 ? $(left) : 10)) ./node benches/generation.mjs --peer "${PYTHON:-python3}" --out runs/generation/rows.json \
    ${GENERATION:-} >logs/generation.table.log 2>logs/generation.log && mv runs/generation/rows.json runs/generation/result.json || echo "generation: ended with $?"
  cat logs/generation.table.log
}
lanes=()
for lane in "${wanted[@]}"; do for part in ${lane//+/ }; do "$part"; done & lanes+=($!); done
alive() { for lane in "${lanes[@]}"; do kill -0 "$lane" 2>/dev/null && return 0; done; return 1; }
while alive && (($(left) > -18)); do sleep 1; done
echo "ended after $(($(date +%s) - began)) s"
tar -czf "$OUT/histories.tgz" logs $(ls runs/*/{history.jsonl,result.json} 2>/dev/null)
# What is judged, then what can be taken on, up to 59 MB: no more comes back.
chosen=() size=0
for file in $(ls runs/*/best.safetensors 2>/dev/null) $(ls runs/*/final.safetensors 2>/dev/null) $(ls -Sr runs/*/last.safetensors 2>/dev/null); do
  bytes=$(stat -c %s "$file")
  # The last epoch's model of a run that validation chose from is in last.safetensors.
  [[ $file == */final.safetensors && -f ${file%final*}best.safetensors ]] && continue
  ((size + bytes < 59000000)) && chosen+=("$file") && size=$((size + bytes))
done
((${#chosen[@]})) && tar -cf - "${chosen[@]}" | split -b 15m -d - "$OUT/models.tar."
ls -l "$OUT"
for log in logs/*.log; do echo "$(basename "$log" .log): $(tail -n 1 "$log" | cut -c1-220)"; done
