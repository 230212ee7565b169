#!/bin/sh
# An IPAM plugin whose answers lie in the folder above it, as shell text by verb. What it was called
# with is kept there, too.
here=${0%/*}/..
printf 'ipam %s %s\n' "$CNI_COMMAND" "$CNI_CONTAINERID" >> "$here/calls"
env > "$here/$CNI_COMMAND.env"
cat > "$here/$CNI_COMMAND.stdin"
if [ -e "$here/$CNI_COMMAND.sh" ]; then
    . "$here/$CNI_COMMAND.sh"
fi
