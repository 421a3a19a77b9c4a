# shellcheck shell=bash
# Fetches what is pinned and builds what is ours. A network that fails here does not undo what was done.

images_missing=''
if [ -n "$pull" ]; then
    step "Fetching the images (a few GB at the first time)"
    pull_options=(--ignore-buildable)
    # Versions are pinned: an image that is here is the right one. Compose knows this option from 2.22 on.
    if compose pull --help 2> /dev/null | grep -q -e --policy; then pull_options+=(--policy missing); fi
    compose pull "${pull_options[@]}" || images_missing=1
    step "Building our own images"
    compose build || images_missing=1
fi
