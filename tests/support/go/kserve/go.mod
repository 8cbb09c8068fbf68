module drydock/tests/kserve

go 1.26.0

// Nothing of it is built: the module holds the schema of an InferenceService.
require github.com/kserve/kserve v0.20.0
