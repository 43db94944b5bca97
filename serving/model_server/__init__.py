"""The embedded model server: TensorFlow Serving's gRPC and REST API over SavedModels, in one Python process.

It stands in for the official image where there is no Docker, and its clients cannot tell. Here belongs what that takes and
nothing else: no ranking, no features, no deltas. What the official server does is the measure, codes and texts included;
where this server differs on purpose, docs/model-server.md says so. Only this package and the trainer import TensorFlow.

Read in this order:

1.  `faults`      codes and texts: how anything here fails
2.  `storage`, `policy`, `transition`    from directories to versions to what is loaded next (pure)
3.  `config`, `status`   which models and labels; what is known of each version (pure)
4.  `tensors`, `bundle`  TensorProto ↔ array; a SavedModel that runs
5.  `predict`, `classify`, `regress`, `multi`, `metadata`, `examples`    request → answer on one bundle
6.  `warmup`, `batches`, `batching`, `loader`    from a directory to something that answers
7.  `servables`, `lifecycle`, `core`     versions in memory, their threads, who answers
8.  `service`     both services as plain functions
9.  `dispatch`, `rpc`    gRPC
10. `document`, `render`, `jsontensor`, `jsonexample`, `jsonwrite`, `routes`, `rest`    REST
11. `metrics`, `flags`, `protos`, `server`, `main`, `bench`, `load`   the process
"""
