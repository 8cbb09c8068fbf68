// Package distconsts says where Drydock's engine image keeps what the engine looks for.
package distconsts

// Names and paths of the engine and of its parts inside the engine image.
const (
	EngineContainerName              = "dagger-engine.drydock"
	DefaultEngineSockAddr            = "unix:///run/dagger/engine.sock"
	EngineDefaultStateDir            = "/var/lib/dagger"
	EngineCustomCACertsDir           = "/usr/local/share/ca-certificates"
	EngineContainerBuiltinContentDir = "/usr/local/share/dagger/content"

	RuncPath       = "/usr/local/bin/runc"
	DaggerInitPath = "/usr/local/bin/dagger-init"
	TiniPath       = "/usr/local/bin/dumb-init"
)

// Language SDKs are not part of this engine: Drydock talks to its API and never loads a module.
const (
	GoSDKManifestDigestEnvName         = "DAGGER_GO_SDK_MANIFEST_DIGEST"
	PythonSDKManifestDigestEnvName     = "DAGGER_PYTHON_SDK_MANIFEST_DIGEST"
	TypescriptSDKManifestDigestEnvName = "DAGGER_TYPESCRIPT_SDK_MANIFEST_DIGEST"
)

// Images that the engine starts only for a terminal or a module, which Drydock has no use for.
const (
	AlpineVersion = "3.22"
	AlpineImage   = "alpine:3.22"
	GolangImage   = "golang:1.24-alpine"
	BusyboxImage  = "busybox:1.37"
)

// OCIVersionAnnotation names the annotation that holds an image's version.
const OCIVersionAnnotation = "org.opencontainers.image.version"
