// The entry points of projection.
#include "host/core/calls.h"
#include "host/core/entry.h"
#include "host/ops/project/op.h"

using namespace qkv::host;

namespace {

using ProjectCalls = Calls<project::kOp, project::Problem, qkv_project_desc, project::validate>;

}  // namespace

extern "C" {

qkv_status qkv_project_desc_init(qkv_project_desc* desc, size_t struct_size) {
  return guarded([&] { return init_descriptor(project::kProjectForm, desc, struct_size); });
}

qkv_status qkv_project_query(const qkv_project_desc* desc, qkv_query_result* result) {
  return guarded([&] { return ProjectCalls::query(desc, result); });
}

qkv_status qkv_project_plan_create(const qkv_project_desc* desc, qkv_plan** plan) {
  return guarded([&] { return ProjectCalls::plan_create(desc, plan); });
}

qkv_status qkv_project_plan_run(const qkv_plan* plan, const qkv_project_desc* desc, void* stream) {
  return guarded([&] { return ProjectCalls::plan_run(plan, desc, stream); });
}

qkv_status qkv_project(const qkv_project_desc* desc, void* stream) {
  return guarded([&] { return ProjectCalls::run(desc, stream); });
}

}  // extern "C"
