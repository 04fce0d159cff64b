"""The machine between raw files and trained models. It knows no corpus, no feature and no model by name.

The doorstep is what plug-ins import: `reader`, `stage` and `model` are the three contracts, `utterance` is the row that
passes through everything, `dialogue` the turns before it, `reason` says why a row has no values, `remark` what is
doubtful about one that has; `objective`, `plugins`, `errors`, `interruption` and
`console` help.

Behind it are the rooms, in the order of the data's way. A room imports the rooms before it, never one after it.

    cache     shards (how rows are cut, written, read), records, states    knows no corpus
    backends  a network                                                    -> the fastest equal function here
    media     opens files that nobody checked                              file -> waveform, frames, findings
    formats   files of features as other tools write them                  <-> utterances and their tracks
    corpus    a recipe and a release                                       -> utterances, folds, scopes of fits
    plan      utterances and a cache                                       -> jobs; computes nothing
    run       jobs                                                         -> shards and fitted states, on workers
    views     shards                                                       -> aligned columns, minibatches
    score     predictions                                                  -> scores with intervals; probes of features
    train     minibatches                                                  -> a trained model, scored
    transfer  corpora, weights, shards                                     <-> the network
    bundle    a trained run                                                -> one folder; clips -> predictions
    pages     predictions and their clips                                  -> pages; tables, charts of every page
    ask       keys, plans and records                                      -> answers in the terminal
    report    everything above                                             -> pages, charts
    python    everything above                                             -> what `import affectory` gives
    cli       the `affectory` command                                      composes the rooms and prints
"""
