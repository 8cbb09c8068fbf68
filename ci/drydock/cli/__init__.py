"""The command line: arguments in, the work of one command, its words out, its exit code back. Only this room prints."""
