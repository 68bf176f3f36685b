# Turns a run into the content of its page.
