"""One file a command: settings in, one call, a result out."""
