#!/bin/sh
# easybuild.sh FOLDER - follows launch/easybuild with EasyBuild from PyPI: checks the style of the recipe,
# resolves its dependencies, and builds, tests and installs the last commit with it. To build the compiler,
# MPI and libraries of the recipe's toolchain would take hours: the build has the compiler and the packages
# of this machine instead (EasyBuild's toolchain SYSTEM). Needs lmod and a network that reaches PyPI.
set -eu
source=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:?usage: easybuild.sh FOLDER}
mkdir -p "$folder/archives"
folder=$(cd "$folder" && pwd)
recipe=$(ls "$source"/launch/easybuild/*.eb)
version=$(sed -n "s/^version = '\(.*\)'/\1/p" "$recipe")
[ -x "$folder/venv/bin/eb" ] || { python3 -m venv "$folder/venv" && "$folder/venv/bin/pip" install -q easybuild pycodestyle; }
git -C "$source" archive --prefix="plumb-$version/" HEAD | gzip >"$folder/archives/plumb-$version.tar.gz"

# shellcheck disable=SC1091
. /usr/share/lmod/lmod/init/sh
PATH=$folder/venv/bin:$PATH
export EASYBUILD_PREFIX="$folder/eb" EASYBUILD_SOURCEPATH="$folder/archives" EASYBUILD_MODULES_TOOL=Lmod
[ "$(id -u)" != 0 ] || export EASYBUILD_ALLOW_USE_AS_ROOT_AND_ACCEPT_CONSEQUENCES=1
eb --check-style "$recipe" >"$folder/style.log" 2>&1 || { tail -n 20 "$folder/style.log"; exit 1; }
eb --dry-run --robot "$recipe" >"$folder/dry-run.log" 2>&1 || { tail -n 20 "$folder/dry-run.log"; exit 1; }
echo "dependencies: $(grep -c '^ \* \[' "$folder/dry-run.log") recipes, all known to EasyBuild"

names=$(sed -n "s/^    ('\([^']*\)', '.*/\1/p" "$recipe" | paste -sd,)
sed 's/^toolchain = .*/toolchain = SYSTEM/; /^toolchainopts/d' "$recipe" >"$folder/plumb.eb"
# what the modules of Meson and Ninja would set
export EBROOTMESON=/usr EBVERSIONMESON="$(meson --version)" EBROOTNINJA=/usr EBVERSIONNINJA="$(ninja --version)"
export EASYBUILD_ALLOW_LOADED_MODULES=Meson,Ninja EASYBUILD_CHECK_EBROOT_ENV_VARS=ignore
eb --force --rebuild --filter-deps="$names" "$folder/plumb.eb" >"$folder/build.log" 2>&1 || { tail -n 40 "$folder/build.log"; exit 1; }
module use "$folder/eb/modules/all"
module load "plumb/$version"
plumb doctor threads=1 | grep 'installed files' | grep "$folder/eb/software/plumb/$version/share/plumb"
echo "easybuild: $(basename "$recipe") builds, passes its tests and loads as a module (toolchain SYSTEM)"
