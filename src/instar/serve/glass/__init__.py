"""The glass box: a page that shows what a model computes, its API, and the process that computes it.

`api` and `site` are the front's and import no torch; `worker` is a process of its own, with its own weights, so that
what is looked at holds up no answer of `/v1`.
"""
