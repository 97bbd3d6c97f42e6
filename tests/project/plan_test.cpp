// Plans of projections, without a device: how products are cut, what they may use as workspace,
// what is declined, and what is said of a library that is not installed.
#include "host/core/plan.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "host/ops/project/cuda/batches.h"
#include "host/ops/project/op.h"
#include "host/verify/projection.h"
#include "tests/support/fake_cuda.h"

namespace qkv::test {
namespace {

using host::project::Batches;
using host::project::Problem;
using verify::ProjectCase;
using X = ProjectCase::X;
using Y = ProjectCase::Y;

constexpr int64_t k4Gi = int64_t{1} << 32;

// [batch, 1, rows, in] to [batch, heads, rows, dim], shapes alone.
qkv_project_desc shapes(int64_t batch, int64_t rows, int64_t in, int64_t heads, int64_t dim) {
  qkv_project_desc d;
  EXPECT_EQ(qkv_project_desc_init(&d, sizeof d), QKV_SUCCESS);
  const int64_t out = heads * dim;
  d.device = QKV_DEVICE_CUDA;
  d.x = {nullptr, QKV_TYPE_F16, 0, {batch, 1, rows, in}, {rows * in, 0, in, 1}};
  d.weight = {nullptr, QKV_TYPE_F16, 0, {1, 1, out, in}, {0, 0, in, 1}};
  d.y = {nullptr, QKV_TYPE_F16, 0, {batch, heads, rows, dim}, {rows * out, dim, out, 1}};
  return d;
}

Problem problem_of(const qkv_project_desc& desc) {
  Problem problem;
  const host::Status status =
      host::project::validate(&desc, host::Need::kShapes, host::cuda_runtime(), &problem);
  EXPECT_TRUE(status.ok()) << status.reason();
  return problem;
}

class ProjectPlan : public testing::Test {
 protected:
  FakeCuda cuda_{{fake_device(90), fake_device(80), fake_device(75)}};

  host::Plan plan(const qkv_project_desc& desc, size_t device = 0) {
    host::Plan out;
    const host::Status status =
        host::make_plan(host::project::kOp, problem_of(desc), cuda_.devices[device], &out);
    EXPECT_TRUE(status.ok()) << status.reason();
    return out;
  }
};

// One product where batches follow each other as rows do and heads lie side by side; else products
// beside each other, along the longer of the two axes.
TEST_F(ProjectPlan, CutsIntoAsFewProductsAsStridesAllow) {
  qkv_project_desc d = shapes(3, 8, 16, 4, 32);
  const auto batches = [&] { return host::project::batches_of(problem_of(d)); };
  Batches b = batches();
  EXPECT_EQ(b.rows, 24);
  EXPECT_EQ(b.out, 128);
  EXPECT_EQ(b.count, 1);
  EXPECT_EQ(b.calls, 1);
  EXPECT_TRUE(b.transpose_weight);

  // Batches with gaps between them: as many products in a call.
  d.x.stride[0] = 200;
  b = batches();
  EXPECT_EQ(b.rows, 8);
  EXPECT_EQ(b.count, 3);
  EXPECT_EQ(b.calls, 1);
  EXPECT_EQ(b.within.x, 200);
  EXPECT_EQ(b.within.y, 8 * 128);
  EXPECT_EQ(b.within.weight, 0);

  // Heads before rows as well: four of them in a call, three calls.
  d.y.stride[1] = 8 * 32, d.y.stride[2] = 32;
  b = batches();
  EXPECT_EQ(b.out, 32);
  EXPECT_EQ(b.count, 4);
  EXPECT_EQ(b.calls, 3);
  EXPECT_EQ(b.within.weight, 32 * 16);
  EXPECT_EQ(b.within.bias, 32);
  EXPECT_EQ(b.within.y, 256);
  EXPECT_EQ(b.between.x, 200);
  EXPECT_EQ(b.between.y, 8 * 128);
  EXPECT_EQ(b.between.bias, 0);

  // A row for each batch, as decoding has: one matrix whose rows are batches.
  d = shapes(7, 1, 16, 1, 32);
  d.x.stride[0] = 48;
  b = batches();
  EXPECT_EQ(b.rows, 7);
  EXPECT_EQ(b.count * b.calls, 1);
  EXPECT_EQ(b.ld_x, 48);

  // [in, out] memory.
  d = shapes(1, 4, 16, 1, 32);
  d.weight.stride[2] = 1, d.weight.stride[3] = 40;
  b = batches();
  EXPECT_FALSE(b.transpose_weight);
  EXPECT_EQ(b.ld_weight, 40);
}

TEST_F(ProjectPlan, WorkspaceDependsOnDeviceAndSizesAlone) {
  const qkv_project_desc large = shapes(1, 512, 768, 12, 64), small = shapes(1, 4, 64, 1, 64);
  EXPECT_EQ(plan(large, 0).workspace_bytes(), size_t{32} << 20);
  EXPECT_EQ(plan(large, 1).workspace_bytes(), size_t{4} << 20);
  EXPECT_EQ(plan(large, 2).workspace_bytes(), size_t{4} << 20);
  for (size_t device = 0; device < 3; ++device) EXPECT_EQ(plan(small, device).workspace_bytes(), 0);
}

TEST_F(ProjectPlan, SaysWhatItDoes) {
  qkv_project_desc d = shapes(3, 8, 16, 4, 32);
  const host::Plan made = plan(d);
  const std::string text =
      host::plan_text(host::project::kOp, made, problem_of(d), cuda_.devices[0]);
  EXPECT_EQ(text,
            "kernel      cublaslt\n"
            "device      NVIDIA H100 80GB HBM3\n"
            "problem     batch 3, rows 8, in 16, out 128, f16\n"
            "tensors     weight [out, in], heads 4 x 32\n"
            "products    1 of 24 x 128 x 16, weight transposed\n"
            "workspace   0 bytes\n");
  EXPECT_EQ(host::project::repro(problem_of(d)), "project:cuda:f16:b3:s8:in16:out128:h4");
  d.bias = {nullptr, QKV_TYPE_F16, 0, {1, 1, 1, 128}, {0, 0, 0, 1}};
  d.weight.stride[2] = 1, d.weight.stride[3] = 130;
  d.x.stride[0] = 200;
  d.y.stride[1] = 8 * 32, d.y.stride[2] = 32;
  EXPECT_EQ(host::project::repro(problem_of(d)),
            "project:cuda:f16:b3:s8:in16:out128:h4:bias:io:w=130:x=200.16:y=1024.256.32");
}

TEST_F(ProjectPlan, DeclinesWithAReason) {
  const struct {
    const char* says;
    void (*edit)(qkv_project_desc& d);
  } rows[] = {
      {"rows of x are 0 elements apart and have 16",
       [](qkv_project_desc& d) { d.x.stride[2] = 0; }},
      {"rows of x are 15 elements apart and have 16",
       [](qkv_project_desc& d) { d.x.stride[2] = 15; }},
      {"lines of weight are 8 elements apart and have 16",
       [](qkv_project_desc& d) { d.weight.stride[2] = 8; }},
      {"lines of weight are 127 elements apart and have 128",
       [](qkv_project_desc& d) { d.weight.stride[2] = 1, d.weight.stride[3] = 127; }},
      {"a size of 4294967296; at most 2^31 - 1 is taken",
       [](qkv_project_desc& d) { d = shapes(1, k4Gi, 16, 1, 32); }},
  };
  for (const auto& row : rows) {
    qkv_project_desc d = shapes(3, 8, 16, 4, 32);
    row.edit(d);
    qkv_query_result answer{};
    answer.struct_size = sizeof answer;
    ASSERT_EQ(qkv_project_query(&d, &answer), QKV_SUCCESS) << qkv_last_error();
    EXPECT_EQ(answer.supported, 0) << row.says;
    EXPECT_NE(std::string(answer.reasons).find(row.says), std::string::npos) << answer.reasons;
  }
}

// Of every case that the contract test runs on devices, a product that cuBLASLt takes.
TEST_F(ProjectPlan, EveryCaseOfDevicesHasAProduct) {
  for (const ProjectCase& one : verify::project_cases()) {
    const verify::Projection projection(one, {.contents = false});
    qkv_project_desc d = projection.desc();
    d.device = QKV_DEVICE_CUDA;
    for (qkv_tensor* tensor : {&d.x, &d.weight, &d.bias, &d.y}) tensor->data = nullptr;
    const std::string why =
        host::project::decline_batches(host::project::batches_of(problem_of(d)));
    EXPECT_EQ(why.empty(), one.on_cuda()) << one.name() << ": " << why;
  }
}

// A kernel says so when it is prepared: for want of a library, whose words come through, and by a
// fault of CUDA's, which is reported as one.
TEST_F(ProjectPlan, ALibraryThatIsMissingIsNoFaultOfCudas) {
  const qkv_project_desc d = shapes(1, 8, 16, 1, 32);
  qkv_plan* made = nullptr;
  for (const auto& [said, want] : {std::pair{QKV_UNSUPPORTED, QKV_UNSUPPORTED_KERNEL},
                                   std::pair{QKV_UNSUPPORTED_KERNEL, QKV_DEVICE_ERROR_CALL},
                                   std::pair{QKV_DEVICE_ERROR_CALL, QKV_DEVICE_ERROR_CALL}}) {
    cuda_.load_results.emplace_back(said, "its words");
    EXPECT_EQ(qkv_project_plan_create(&d, &made), want);
    EXPECT_NE(std::string(qkv_last_error()).find("its words"), std::string::npos)
        << qkv_last_error();
    EXPECT_EQ(made, nullptr);
  }
  EXPECT_EQ(qkv_project_plan_create(&d, &made), QKV_SUCCESS) << "the next call tries again";
  qkv_plan_destroy(made);
}

}  // namespace
}  // namespace qkv::test
