"""From the browser to the archive, filtered by clinic: nobody sees a study that is not theirs."""
