"""Contained child processes: started, streamed, limited, signalled and ended as a whole; knows no backups."""
