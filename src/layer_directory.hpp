// layer_directory.hpp - where a node keeps the private writable layer of a container.
//
// The container's root is an overlay: the image below, LAYERS_DIR/ID/upper above. It is mounted only
// in the mount namespace of the container itself, so that no mount is left when that ends. What is in
// `upper` is the container's; src/migration/layer.hpp moves it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/process.hpp"
#include "base/result.hpp"

namespace lifeboat {

class LayerDirectory {
 public:
  // One that exists. `lower` is the image's root file system.
  LayerDirectory(const std::string& layers_dir, const std::string& id, std::string lower)
      : directory_(layers_dir + "/" + id), lower_(std::move(lower)) {}
  // A new one, empty, whose root has the owner and mode of the image's; what was there is removed.
  // kRefused when the file system there cannot be the upper layer of an overlay.
  static Result<LayerDirectory> create(const std::string& layers_dir, const std::string& id,
                                       const std::string& lower);

  [[nodiscard]] std::string upper() const { return directory_ + "/upper"; }
  [[nodiscard]] OverlayMount overlay(std::string mount_point) const;
  // Bytes that could still be written there.
  [[nodiscard]] Result<std::uint64_t> free_bytes() const;
  // Its name is free at once; what is in it goes on a thread of its own (it may be many files), and
  // LAYERS_DIR itself after the last one. Best effort.
  void remove() const;

 private:
  std::string directory_;
  std::string lower_;
};

// The containers that have one.
std::vector<std::string> layers_present(const std::string& layers_dir);

}  // namespace lifeboat
