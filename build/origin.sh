# For sourcing: the version, commit and time of the programs in bin/.
commit=$(git rev-parse HEAD)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
version=$(go version -m bin/ferry-linux-amd64 | awk '$1 == "mod" { print $3 }')
if [[ $version == '(devel)' || -z $version ]]; then
	version=v0.0.0-${commit:0:12}
fi
version=${version#v}
