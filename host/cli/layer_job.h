// A layer as a job for any device.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device.h"
#include "qkv/qkv.h"

namespace qkv::cli {

class LayerJob : public Job {
 public:
  // `attention` takes the place of the descriptor's.
  LayerJob(const qkv_layer_desc& desc, const qkv_attention_desc& attention,
           const DeviceChoice& where);

  std::string check_support() override;
  void move(const Move& to_copy) override;
  size_t prepare() override;
  void run(void* workspace, size_t bytes) override;
  int32_t most_threads() const override { return desc_.threads; }

 private:
  qkv_layer_desc desc_;
  qkv_attention_desc attention_;
  std::unique_ptr<qkv_plan, void (*)(qkv_plan*)> plan_{nullptr, qkv_plan_destroy};
};

}  // namespace qkv::cli
