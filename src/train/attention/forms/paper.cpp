#include "train/attention/summary.h"

namespace linnet::train {

Form paper_form() { return form_of_features<identity_features>(); }

}  // namespace linnet::train
