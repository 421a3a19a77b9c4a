#!/bin/sh
# Has nginx keep no more frames while there is hardly room for them: one that finds none would be cut off on its way to
# the reader, and nginx looks at the size of its cache every ten seconds only. It passes them on then, and keeps none.
set -eu

folder=/var/cache/frames
full=/tmp/frames-are-full
most_percent=60
seconds=0.5

percent() {
    df -P "$folder" | awk 'END { print int($5) }'
}

watch() {
    echo "nginx: no more frames are kept while $folder is fuller than $most_percent %"
    while sleep "$seconds"; do
        if [ "$(percent)" -gt "$most_percent" ]; then : >"$full"; else rm -f "$full"; fi
    done
}

# The entrypoint reads the names of its scripts from stdin.
watch </dev/null &
