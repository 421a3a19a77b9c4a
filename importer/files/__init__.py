"""Files as the file system has them: named, moved without a loss, filed, and the failed ones looked after."""
