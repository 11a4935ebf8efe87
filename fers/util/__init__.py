"""What every room shares: errors, command lines, files, paths. Nothing here knows a scene."""
