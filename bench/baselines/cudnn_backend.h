// The part of cuDNN's backend API (version 9) that attention needs, declared here so that a build
// needs neither cuDNN nor its frontend: the frontend's headers ask for all of cudnn.h, some 440
// names, these are what one graph is made of. Names without the prefix are cuDNN's, and so are the
// numbers, which are part of its ABI. Enumerations are ints there.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qkv::bench::cudnn {

using Handle = void*;
using Descriptor = void*;

inline constexpr int kSuccess = 0;  // cudnnStatus_t

// cudnnBackendDescriptorType_t
enum Kind : int {
  kPointwise = 0,
  kEngineConfig = 3,
  kEngineHeuristics = 4,
  kExecutionPlan = 5,
  kOperationPointwise = 13,
  kOperationGraph = 15,
  kVariantPack = 16,
  kTensor = 17,
  kMatmul = 18,
  kOperationMatmul = 19,
  kReduction = 21,
  kOperationReduction = 22,
  kDeviceProperties = 38,  // from 9.8 on
};

// cudnnBackendAttributeName_t
enum Attribute : int {
  kPointwiseMode = 0,
  kPointwiseMathPrecision = 1,
  kPointwiseAxis = 9,
  kHeuristicsMode = 200,
  kHeuristicsOperationGraph = 201,
  kHeuristicsResults = 202,
  kHeuristicsDevice = 204,
  kPlanHandle = 400,
  kPlanEngineConfig = 401,
  kPlanWorkspaceSize = 402,
  kOperationPointwiseDescriptor = 750,
  kOperationPointwiseX = 751,
  kOperationPointwiseB = 752,
  kOperationPointwiseY = 753,
  kOperationPointwiseT = 758,
  kGraphHandle = 800,
  kGraphOperations = 801,
  kTensorAlignment = 900,
  kTensorDataType = 901,
  kTensorDimensions = 902,
  kTensorStrides = 903,
  kTensorUniqueId = 906,
  kTensorIsVirtual = 907,
  kTensorIsByValue = 908,
  kPackUniqueIds = 1000,
  kPackDataPointers = 1001,
  kPackWorkspace = 1003,
  kMatmulComputeType = 1500,
  kOperationMatmulA = 1520,
  kOperationMatmulB = 1521,
  kOperationMatmulC = 1522,
  kOperationMatmulDescriptor = 1523,
  kReductionOperator = 1600,
  kReductionComputeType = 1601,
  kOperationReductionX = 1610,
  kOperationReductionY = 1611,
  kOperationReductionDescriptor = 1612,
  kDeviceJson = 2702,
};

// cudnnBackendAttributeType_t
enum AttributeType : int {
  kTypeHandle = 0,
  kTypeDataType = 1,
  kTypeBoolean = 2,  // of C++'s bool
  kTypeInt64 = 3,
  kTypePointer = 6,
  kTypeHeuristicsMode = 8,
  kTypePointwiseMode = 14,
  kTypeDescriptor = 15,
  kTypeReductionOperator = 18,
  kTypeChar = 24,
};

// cudnnDataType_t
enum DataType : int { kFloat = 0, kHalf = 2, kInt32 = 4, kBfloat16 = 9, kBoolean = 11 };

// cudnnPointwiseMode_t
enum PointwiseMode : int {
  kAdd = 0,
  kMultiply = 1,
  kDivide = 6,
  kSubtract = 9,
  kExponential = 13,
  kLogarithm = 15,
  kGreater = 302,
  kGreaterOrEqual = 303,
  kGenerateIndex = 501,  // Y: the index along an axis of X
  kSelect = 601,         // Y: of X where T is true, else of B
};

// cudnnReduceTensorOp_t
enum ReductionOperator : int { kSum = 0, kMaximum = 3 };

// cudnnBackendHeurMode_t
enum HeuristicsMode : int { kHeuristicsFallback = 2, kHeuristicsA = 3 };

// The functions, by their names in libcudnn without "cudnn" and "cudnnBackend".
struct Functions {
  size_t (*version)() = nullptr;  // 91900 of 9.19.0
  int (*create)(Handle*) = nullptr;
  int (*destroy)(Handle) = nullptr;
  int (*set_stream)(Handle, void* stream) = nullptr;
  const char* (*error_string)(int status) = nullptr;
  void (*last_error)(char* text, size_t size) = nullptr;
  int (*create_descriptor)(int kind, Descriptor*) = nullptr;
  int (*destroy_descriptor)(Descriptor) = nullptr;
  int (*set)(Descriptor, int attribute, int type, int64_t count, const void* values) = nullptr;
  int (*get)(Descriptor, int attribute, int type, int64_t capacity, int64_t* count,
             void* values) = nullptr;
  int (*finalize)(Descriptor) = nullptr;
  int (*execute)(Handle, Descriptor plan, Descriptor pack) = nullptr;
};

}  // namespace qkv::bench::cudnn
