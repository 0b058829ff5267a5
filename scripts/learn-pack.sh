#!/usr/bin/env bash
# Fills a folder with what learn-run.sh needs on a machine that has an NVIDIA driver and no network:
#   bash scripts/learn-pack.sh BUILT_TREE DATA FOLDER [PACK ...]
# BUILT_TREE: a checkout after `npm run build`. Packs, all without any named: acl (18 MB, DATA/aclImdb), cifar (20 MB, DATA/cifar10), small
# (9 MB, DATA/recordings, mnist_10k_test_images and ETT-small). Node and the tree, 28 MB, are always there.
set -euo pipefail
built=$(realpath "$1") data=$(realpath "$2") folder=$(realpath -m "$3") here=$(cd "$(dirname "$0")" && pwd)
shift 3
packs=" ${*:-acl cifar small} "
# wanted PACK: named, and not there yet.
wanted() { [[ $packs == *" $1 "* && ! -f $folder/$1.tar.xz ]]; }
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$folder" "$stage"/tree/{crates/node,scripts,cli/dist/src,node_modules} "$stage/small"
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
if wanted small; then
  node "$here/learn-pack.mjs" digits "$data/recordings" "$stage/small/recordings"
  node "$here/learn-pack.mjs" mnist "$data/mnist_10k_test_images" "$stage/small/mnist"
  cp -r "$data/ETT-small" "$stage/small/"
  tar "${order[@]}" -C "$stage/small" -cf - recordings mnist ETT-small | xz -T1 --lzma2=preset=9e,lc=0,lp=0,pb=0 >"$folder/small.tar.xz"
fi
cp "$built/package.json" "$stage/tree/" && cp -r "$built/build" "$stage/tree/" && rm -rf "$stage/tree/build/__test__"
cp "$built"/crates/node/{binding.js,load.cjs,*.node} "$stage/tree/crates/node/" && strip "$stage"/tree/crates/node/*.node
cp "$built/cli/package.json" "$stage/tree/cli/" && cp "$built/cli/dist/src/taskfiles.js" "$stage/tree/cli/dist/src/"
ln -s .. "$stage/tree/node_modules/s4-node"
cp -r "$here/../recipes" "$stage/tree/" && cp "$here"/recipe*.mjs "$stage/tree/scripts/"
tar "${order[@]}" -C "$stage/tree" -cf - . | xz -T1 --x86 --lzma2=preset=9e >"$folder/tree.tar.xz"
cp "$here/learn-run.sh" "$folder/"
ls -l "$folder"
