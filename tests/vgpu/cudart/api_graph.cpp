// Graphs: nodes added by hand, instantiation, launch. Capture is in capture.cpp.
//
// A graph is its nodes in an order that respects every dependency: the order of capture, or the
// order in which nodes were added (a node can only depend on nodes that exist).
#include <algorithm>
#include <cstdio>

#include "cudart/api.h"

using namespace vgpu;

namespace {

GraphState* graph_of(cudaGraph_t handle) {
  for (auto& g : rt().graphs)
    if (g.get() == reinterpret_cast<GraphState*>(handle)) return g.get();
  return nullptr;
}
GraphExecState* exec_of(cudaGraphExec_t handle) {
  for (auto& g : rt().graph_execs)
    if (g.get() == reinterpret_cast<GraphExecState*>(handle)) return g.get();
  return nullptr;
}

cudaError_t instantiate(cudaGraphExec_t* out, cudaGraph_t handle) {
  GraphState* g = graph_of(handle);
  if (g == nullptr || out == nullptr) return cudaErrorInvalidValue;
  auto exec = std::make_unique<GraphExecState>();
  for (const auto& node : g->nodes) {
    exec->work.push_back(node->run);
    exec->nodes.push_back(node.get());
  }
  *out = reinterpret_cast<cudaGraphExec_t>(exec.get());
  rt().graph_execs.push_back(std::move(exec));
  return cudaSuccess;
}

// Collects what `body` enqueues into one node of the graph.
cudaError_t add_node(cudaGraphNode_t* out, cudaGraph_t handle, cudaGraphNodeType type,
                     const std::function<cudaError_t(cudaStream_t)>& body) {
  GraphState* g = graph_of(handle);
  if (g == nullptr) return cudaErrorInvalidValue;
  StreamState* s = rt().new_stream(cudaStreamNonBlocking, 0);
  s->capture = g;
  const size_t before = g->nodes.size();
  const cudaError_t e = body ? body(reinterpret_cast<cudaStream_t>(s)) : cudaSuccess;
  s->capture = nullptr;
  s->destroyed = true;
  if (e != cudaSuccess) return e;
  if (g->nodes.size() == before) {
    g->nodes.push_back(std::make_unique<GraphNode>());
    g->nodes.back()->owner = g;
  }
  // Several pieces (rows of a copy) are one node.
  auto first = std::move(g->nodes[before]);
  for (size_t i = before + 1; i < g->nodes.size(); ++i) {
    first->run = [a = std::move(first->run), b = g->nodes[i]->run] {
      const cudaError_t error = a();
      return error == cudaSuccess ? b() : error;
    };
  }
  g->nodes.resize(before);
  first->type = type;
  if (out != nullptr) *out = reinterpret_cast<cudaGraphNode_t>(first.get());
  g->nodes.push_back(std::move(first));
  return cudaSuccess;
}

cudaError_t add_kernel(cudaGraphNode_t* node, cudaGraph_t graph, const cudaKernelNodeParams* p) {
  if (p->kernelParams == nullptr) return cudaErrorNotSupported;
  return add_node(node, graph, cudaGraphNodeTypeKernel, [&](cudaStream_t s) {
    return rt().launch(p->func, p->gridDim, p->blockDim, p->kernelParams, p->sharedMemBytes, s);
  });
}

// What a kernel node with these parameters does.
cudaError_t kernel_work(const cudaKernelNodeParams* p, std::function<cudaError_t()>& out) {
  rt().graphs.push_back(std::make_unique<GraphState>());
  GraphState* scratch = rt().graphs.back().get();
  const cudaError_t e = add_kernel(nullptr, reinterpret_cast<cudaGraph_t>(scratch), p);
  if (e == cudaSuccess) out = std::move(scratch->nodes.front()->run);
  std::erase_if(rt().graphs, [&](const auto& g) { return g.get() == scratch; });
  return e;
}

}  // namespace

VGPU_EXPORT cudaError_t cudaGraphCreate(cudaGraph_t* graph, unsigned) {
  return api("cudaGraphCreate", [&] {
    rt().graphs.push_back(std::make_unique<GraphState>());
    *graph = reinterpret_cast<cudaGraph_t>(rt().graphs.back().get());
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return api("cudaGraphDestroy", [&] {
    const GraphState* g = graph_of(graph);
    if (g == nullptr) return cudaErrorInvalidValue;
    std::erase_if(rt().graphs, [g](const auto& p) { return p.get() == g; });
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaGraphAddKernelNode(cudaGraphNode_t* node, cudaGraph_t graph,
                                               const cudaGraphNode_t*, size_t,
                                               const cudaKernelNodeParams* p) {
  return api("cudaGraphAddKernelNode", [&] { return add_kernel(node, graph, p); });
}
VGPU_EXPORT cudaError_t cudaGraphKernelNodeSetParams(cudaGraphNode_t node,
                                                     const cudaKernelNodeParams* p) {
  return api("cudaGraphKernelNodeSetParams", [&] {
    auto* n = reinterpret_cast<GraphNode*>(node);
    if (n == nullptr || n->type != cudaGraphNodeTypeKernel) return cudaErrorInvalidValue;
    return kernel_work(p, n->run);
  });
}
VGPU_EXPORT cudaError_t cudaGraphExecKernelNodeSetParams(cudaGraphExec_t handle,
                                                         cudaGraphNode_t node,
                                                         const cudaKernelNodeParams* p) {
  return api("cudaGraphExecKernelNodeSetParams", [&] {
    GraphExecState* exec = exec_of(handle);
    const auto* n = reinterpret_cast<const GraphNode*>(node);
    if (exec == nullptr) return cudaErrorInvalidValue;
    const auto it = std::find(exec->nodes.begin(), exec->nodes.end(), n);
    if (it == exec->nodes.end() || n->type != cudaGraphNodeTypeKernel) return cudaErrorInvalidValue;
    return kernel_work(p, exec->work[static_cast<size_t>(it - exec->nodes.begin())]);
  });
}
VGPU_EXPORT cudaError_t cudaGraphClone(cudaGraph_t* clone, cudaGraph_t original) {
  return api("cudaGraphClone", [&] {
    const GraphState* g = graph_of(original);
    if (g == nullptr || clone == nullptr) return cudaErrorInvalidValue;
    auto copy = std::make_unique<GraphState>();
    for (const auto& node : g->nodes) {
      copy->nodes.push_back(std::make_unique<GraphNode>(*node));
      copy->nodes.back()->owner = copy.get();
    }
    *clone = reinterpret_cast<cudaGraph_t>(copy.get());
    rt().graphs.push_back(std::move(copy));
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaGraphAddMemcpyNode1D(cudaGraphNode_t* node, cudaGraph_t graph,
                                                 const cudaGraphNode_t*, size_t, void* dst,
                                                 const void* src, size_t count,
                                                 cudaMemcpyKind kind) {
  return api("cudaGraphAddMemcpyNode1D", [&] {
    return add_node(node, graph, cudaGraphNodeTypeMemcpy,
                    [&](cudaStream_t s) { return rt().copy(dst, src, count, kind, s, true); });
  });
}
VGPU_EXPORT cudaError_t cudaGraphAddMemcpyNode(cudaGraphNode_t* node, cudaGraph_t graph,
                                               const cudaGraphNode_t*, size_t,
                                               const cudaMemcpy3DParms* p) {
  return api("cudaGraphAddMemcpyNode", [&] {
    if (p->srcArray != nullptr || p->dstArray != nullptr) return cudaErrorNotSupported;
    return add_node(node, graph, cudaGraphNodeTypeMemcpy, [&](cudaStream_t s) {
      const auto at = [](const cudaPitchedPtr& ptr, const cudaPos& pos, size_t row, size_t slice) {
        return static_cast<u8*>(ptr.ptr) + pos.x +
               ((pos.z + slice) * ptr.ysize + pos.y + row) * ptr.pitch;
      };
      cudaError_t e = cudaSuccess;
      for (size_t z = 0; z < p->extent.depth; ++z)
        for (size_t y = 0; y < p->extent.height && e == cudaSuccess; ++y)
          e = rt().copy(at(p->dstPtr, p->dstPos, y, z), at(p->srcPtr, p->srcPos, y, z),
                        p->extent.width, p->kind, s, true);
      return e;
    });
  });
}
VGPU_EXPORT cudaError_t cudaGraphAddMemsetNode(cudaGraphNode_t* node, cudaGraph_t graph,
                                               const cudaGraphNode_t*, size_t,
                                               const cudaMemsetParams* p) {
  return api("cudaGraphAddMemsetNode", [&] {
    if (p->elementSize != 1 && p->value != 0) return cudaErrorNotSupported;
    return add_node(node, graph, cudaGraphNodeTypeMemset, [&](cudaStream_t s) {
      cudaError_t e = cudaSuccess;
      for (size_t row = 0; row < p->height && e == cudaSuccess; ++row) {
        e = rt().fill(static_cast<u8*>(p->dst) + row * p->pitch, static_cast<int>(p->value),
                      p->width * p->elementSize, s, true);
      }
      return e;
    });
  });
}
VGPU_EXPORT cudaError_t cudaGraphAddHostNode(cudaGraphNode_t* node, cudaGraph_t graph,
                                             const cudaGraphNode_t*, size_t,
                                             const cudaHostNodeParams* p) {
  return api("cudaGraphAddHostNode", [&] {
    return add_node(node, graph, cudaGraphNodeTypeHost, [&](cudaStream_t s) {
      return rt().enqueue(rt().stream(s), cudaGraphNodeTypeHost, [p = *p] {
        p.fn(p.userData);
        return cudaSuccess;
      });
    });
  });
}
VGPU_EXPORT cudaError_t cudaGraphAddEmptyNode(cudaGraphNode_t* node, cudaGraph_t graph,
                                              const cudaGraphNode_t*, size_t) {
  return api("cudaGraphAddEmptyNode",
             [&] { return add_node(node, graph, cudaGraphNodeTypeEmpty, nullptr); });
}
VGPU_EXPORT cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes,
                                          size_t* count) {
  return api("cudaGraphGetNodes", [&] {
    const GraphState* g = graph_of(graph);
    if (g == nullptr) return cudaErrorInvalidValue;
    if (nodes != nullptr) {
      for (size_t i = 0; i < std::min(*count, g->nodes.size()); ++i)
        nodes[i] = reinterpret_cast<cudaGraphNode_t>(g->nodes[i].get());
    }
    *count = g->nodes.size();
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
  return api("cudaGraphNodeGetType", [&] {
    *type = reinterpret_cast<const GraphNode*>(node)->type;
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph,
                                             unsigned long long) {
  return api("cudaGraphInstantiate", [&] { return instantiate(exec, graph); });
}
VGPU_EXPORT cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph,
                                                      unsigned long long) {
  return api("cudaGraphInstantiateWithFlags", [&] { return instantiate(exec, graph); });
}
VGPU_EXPORT cudaError_t cudaGraphExecUpdate(cudaGraphExec_t handle, cudaGraph_t graph,
                                            cudaGraphExecUpdateResultInfo* info) {
  return api("cudaGraphExecUpdate", [&] {
    GraphExecState* exec = exec_of(handle);
    const GraphState* g = graph_of(graph);
    if (exec == nullptr || g == nullptr) return cudaErrorInvalidValue;
    if (info != nullptr) *info = {};
    if (exec->work.size() != g->nodes.size()) {
      if (info != nullptr) info->result = cudaGraphExecUpdateErrorTopologyChanged;
      return cudaErrorGraphExecUpdateFailure;
    }
    exec->work.clear();
    for (const auto& node : g->nodes) exec->work.push_back(node->run);
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  return api("cudaGraphUpload", [] { return cudaSuccess; });
}
VGPU_EXPORT cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream) {
  return api("cudaGraphLaunch", [&] {
    const GraphExecState* exec = exec_of(handle);
    if (exec == nullptr) return cudaErrorInvalidValue;
    for (const auto& work : exec->work) {
      const cudaError_t e = rt().enqueue(rt().stream(stream), cudaGraphNodeTypeGraph, work);
      if (e != cudaSuccess) return e;
    }
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaGraphExecDestroy(cudaGraphExec_t handle) {
  return api("cudaGraphExecDestroy", [&] {
    const GraphExecState* exec = exec_of(handle);
    if (exec == nullptr) return cudaErrorInvalidValue;
    std::erase_if(rt().graph_execs, [exec](const auto& p) { return p.get() == exec; });
    return cudaSuccess;
  });
}
