// Every image: `make images`, or `docker buildx bake`. One of them: `docker buildx bake chat-cuda`.

variable "REGISTRY" { default = "" }
variable "TAG" { default = "dev" }
variable "PLATFORMS" { default = "" }
variable "VERSION" { default = "" }
variable "REVISION" { default = "" }
variable "CUDA_ARCHITECTURES" { default = "75;80;86;89;90;100;120" }
variable "TORCH_INDEX" { default = "" }

function "reference" {
  params = [component, suffix]
  result = "${REGISTRY}${REGISTRY == "" ? "" : "/"}trenza/${component}:${TAG}${suffix}"
}

group "default" { targets = ["cpu", "cuda"] }

target "base" {
  context   = "."
  platforms = PLATFORMS == "" ? [] : split(",", PLATFORMS)
  args = {
    VERSION  = VERSION
    REVISION = REVISION
  }
}

target "cpu" {
  inherits = ["base"]
  name     = "${component}-cpu"
  matrix   = { component = ["gateway", "scheduler", "chat", "audio", "vision", "images", "fetch"] }
  tags     = [reference(component, "")]
  args = {
    COMPONENT   = component
    VARIANT     = "cpu"
    TORCH_INDEX = TORCH_INDEX
  }
}

target "cuda" {
  inherits = ["base"]
  name     = "${model.component}-cuda"
  // Each gets the CUDA libraries that it does not bring itself, and no more.
  matrix = {
    model = [
      { component = "chat", libraries = "runtime" },
      { component = "audio", libraries = "cudnn-runtime" },
      { component = "vision", libraries = "runtime" },
      { component = "images", libraries = "base" },
    ]
  }
  tags = [reference(model.component, "-cuda")]
  args = {
    COMPONENT          = model.component
    VARIANT            = "cuda"
    CUDA_ARCHITECTURES = CUDA_ARCHITECTURES
    CUDA_RUN_IMAGE     = "nvidia/cuda:12.9.1-${model.libraries}-ubuntu24.04"
  }
}
