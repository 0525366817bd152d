"""The embedded task and its policies, with the commands that rebuild them: no download is needed."""
