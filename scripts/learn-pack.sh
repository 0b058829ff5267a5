#!/usr/bin/env bash
# Fills a folder with what learn-run.sh needs on a machine that has an NVIDIA driver and no network:
#   bash scripts/learn-pack.sh BUILT_TREE DATA FOLDER [PACK ...]
# BUILT_TREE: a checkout after `npm run build`. Packs: acl (18 MB, DATA/aclImdb), cifar (20 MB, DATA/cifar10), small (9 MB,
# DATA/recordings, mnist_10k_test_images and ETT-small); these three without any named. By name alone: mnist (1.4 MB, of the same pictures),
# greycifar (40 MB, DATA/cifar10 in grey without loss, for image and image_ranks in the place of cifar),
# words (8 MB, of aclImdb's reviews), wikitext (3 MB, DATA/wikitext-2/{train,valid,test}.txt). Node and the tree, 28 MB, are always there.
set -euo pipefail
built=$(realpath "$1") data=$(realpath "$2") folder=$(realpath -m "$3") here=$(cd "$(dirname "$0")" && pwd)
shift 3
packs=" ${*:-acl cifar small} "
# wanted PACK: named, and not there yet.
wanted() { [[ $packs == *" $1 "* && ! -f $folder/$1.tar.xz ]]; }
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$folder" "$stage"/tree/{crates/node,scripts,cli/dist/src,node_modules,benches} "$stage"/{small,mnist,imdb-words}
order=(--sort=name --owner=0 --group=0 --mtime=@0)
if [ ! -f "$folder/node.xz" ]; then
  cp "$(command -v node)" "$stage/node" && strip "$stage/node"
  xz -T1 --x86 --lzma2=preset=9e,dict=64MiB <"$stage/node" >"$folder/node.xz"
fi
if wanted acl; then
  tar "${order[@]}" -C "$data" -cf - aclImdb/{train,test}/{pos,neg} | xz -T1 --lzma2=preset=9e,dict=128MiB,lc=4,lp=0,pb=0 >"$folder/acl.tar.xz"
fi
if wanted cifar; then
  tar "${order[@]}" -C "$data" -cf - cifar10 | xz -T1 --lzma2=preset=9e,dict=128MiB,lc=0,lp=0,pb=0 >"$folder/cifar.tar.xz"
fi
if wanted greycifar; then
  node "$here/learn-pack.mjs" greycifar "$data/cifar10" "$stage/greycifar"
  tar "${order[@]}" -C "$stage" -cf - greycifar | xz -T1 --lzma2=preset=9e,dict=64MiB,lc=0,lp=0,pb=0 >"$folder/greycifar.tar.xz"
fi
if wanted small; then
  node "$here/learn-pack.mjs" digits "$data/recordings" "$stage/small/recordings"
  node "$here/learn-pack.mjs" mnist "$data/mnist_10k_test_images" "$stage/small/mnist"
  cp -r "$data/ETT-small" "$stage/small/"
  tar "${order[@]}" -C "$stage/small" -cf - recordings mnist ETT-small | xz -T1 --lzma2=preset=9e,lc=0,lp=0,pb=0 >"$folder/small.tar.xz"
fi
if wanted mnist; then
  node "$here/learn-pack.mjs" mnist "$data/mnist_10k_test_images" "$stage/mnist"
  tar "${order[@]}" -C "$stage" -cf - mnist | xz -T1 --lzma2=preset=9e,lc=0,lp=0,pb=0 >"$folder/mnist.tar.xz"
fi
if wanted words; then
  node "$here/learn-pack.mjs" words "$data/aclImdb" "$stage/imdb-words"
  tar "${order[@]}" -C "$stage" -cf - imdb-words | xz -T1 --lzma2=preset=9e,dict=64MiB,lc=4,lp=0,pb=0 >"$folder/words.tar.xz"
fi
if wanted wikitext; then
  for part in train valid test; do [ -s "$data/wikitext-2/$part.txt" ] || { echo "$data/wikitext-2/$part.txt is missing or empty" >&2; exit 1; }; done
  tar "${order[@]}" -C "$data" -cf - wikitext-2/{train,valid,test}.txt | xz -T1 --lzma2=preset=9e,dict=64MiB,lc=4,lp=0,pb=0 >"$folder/wikitext.tar.xz"
fi
cp "$built/package.json" "$stage/tree/" && cp -r "$built/build" "$stage/tree/" && rm -rf "$stage/tree/build/__test__"
cp "$built"/crates/node/{binding.js,load.cjs,*.node} "$stage/tree/crates/node/" && strip "$stage"/tree/crates/node/*.node
cp "$built/cli/package.json" "$stage/tree/cli/" && cp "$built/cli/dist/src/taskfiles.js" "$stage/tree/cli/dist/src/"
ln -s .. "$stage/tree/node_modules/s4-node"
cp -r "$here/../recipes" "$stage/tree/" && cp "$here"/{recipe,learn-}*.mjs "$stage/tree/scripts/"
mkdir "$stage/tree/benches/peers" && cp "$here"/../benches/generation.mjs "$stage/tree/benches/" && cp "$here"/../benches/peers/*.py "$stage/tree/benches/peers/"
tar "${order[@]}" -C "$stage/tree" -cf - . | xz -T1 --x86 --lzma2=preset=9e >"$folder/tree.tar.xz"
cp "$here/learn-run.sh" "$folder/"
ls -l "$folder"
