"""One file a script: settings in, the rooms put together, a result out."""
