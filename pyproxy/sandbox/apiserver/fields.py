"""The fields of every kind that the API server knows: facts of the Kubernetes API.

One line per struct, fields in the order in which kube-apiserver writes them:

    !name    written even when it is empty; others are left out then
    ?name    a pointer: 0, false and "" are values and are written
    name@7   its number in protobuf, unless that is one more than the last; 0 = none
    {T}      map of strings to T
    [T]      list that is replaced as a whole
    [T a+b]  list of structs that are told apart by a and b; strategic merge uses a
    [T *]    set of scalars
    *        any other field, unchecked
    T^, T^:  owned as a whole by whoever sets it

`any` is a value that nobody looks into. *Source:* the types of k8s.io/api v1.37.
"""

TABLE = """
ObjectMeta: name string, generateName string, namespace string, selfLink string, uid
  string, resourceVersion string, generation int, creationTimestamp time,
  deletionTimestamp time, ?deletionGracePeriodSeconds int, labels {string}, annotations
  {string}, ownerReferences [OwnerReference uid], finalizers [string *],
  managedFields@17 [any]
OwnerReference: !apiVersion@5 string, !kind@1 string, !name@3 string, !uid string,
  ?controller@6 bool, ?blockOwnerDeletion bool
Condition: !type string, !status string, observedGeneration int, !lastTransitionTime
  time, !reason string, !message string
LabelSelector^: matchLabels {string}, matchExpressions [any]
DeleteOptions: ?gracePeriodSeconds int, preconditions Preconditions, ?orphanDependents
  bool, ?propagationPolicy string, dryRun [string],
  ?ignoreStoreReadErrorWithClusterBreakingPotential bool
Preconditions: ?uid string, ?resourceVersion string
Namespace: !metadata ObjectMeta, !spec NamespaceSpec, !status NamespaceStatus
NamespaceSpec: finalizers [string]
NamespaceStatus: phase string, conditions [NamespaceCondition type]
NamespaceCondition: !type string, !status string, !lastTransitionTime@4 time, reason
  string, message string
Node: !metadata ObjectMeta, !spec NodeSpec, !status NodeStatus
NodeSpec: podCIDR string, podCIDRs@7 [string *], providerID@3 string, unschedulable
  bool, taints [Taint], configSource any, externalID@2 string, podPreemptionPolicy@8 any
Taint: !key string, value string, !effect string, timeAdded time
NodeStatus: capacity {quantity}, allocatable {quantity}, phase string, conditions
  [NodeCondition type], addresses [NodeAddress type], !daemonEndpoints
  NodeDaemonEndpoints, !nodeInfo NodeSystemInfo, images [ContainerImage], volumesInUse
  [string], volumesAttached [any], config any, runtimeHandlers [any], features any,
  declaredFeatures [string]
NodeCondition: !type string, !status string, !lastHeartbeatTime time,
  !lastTransitionTime time, reason string, message string
NodeAddress: !type string, !address string
NodeDaemonEndpoints: !kubeletEndpoint DaemonEndpoint
DaemonEndpoint: !Port int
NodeSystemInfo: !machineID string, !systemUUID string, !bootID string, !kernelVersion
  string, !osImage string, !containerRuntimeVersion string, !kubeletVersion string,
  !kubeProxyVersion string, !operatingSystem string, !architecture string, swap any
ContainerImage: !names [string], sizeBytes int
Pod: !metadata ObjectMeta, !spec PodSpec, !status PodStatus
PodSpec: volumes [Volume name], initContainers@20 [Container name], !containers@2
  [Container name], ephemeralContainers@34 [EphemeralContainer name], restartPolicy@3
  string, ?terminationGracePeriodSeconds int, ?activeDeadlineSeconds int, dnsPolicy
  string, nodeSelector {string}^, serviceAccountName string, serviceAccount string,
  ?automountServiceAccountToken@21 bool, nodeName@10 string, hostNetwork bool, hostPID
  bool, hostIPC bool, ?shareProcessNamespace@27 bool, securityContext@14 any,
  imagePullSecrets [LocalObjectReference name], hostname string, subdomain string,
  affinity any, schedulerName string, tolerations@22 [Toleration], hostAliases
  [HostAlias ip], priorityClassName string, ?priority int, dnsConfig any,
  readinessGates@28 [any], ?runtimeClassName string, ?enableServiceLinks bool,
  ?preemptionPolicy string, overhead {quantity}, topologySpreadConstraints [any],
  ?setHostnameAsFQDN@35 bool, os any, ?hostUsers bool, schedulingGates [any],
  resourceClaims [any], resources ResourceRequirements, ?hostnameOverride string,
  schedulingGroup@43 any, evictionResponders [any]
Container: !name string, image string, command [string], args [string], workingDir
  string, ports [ContainerPort containerPort+protocol], envFrom@19 [EnvFromSource],
  env@7 [EnvVar name], !resources ResourceRequirements, resizePolicy@23 [any],
  ?restartPolicy string, restartPolicyRules [any], volumeMounts@9 [VolumeMount
  mountPath], volumeDevices@21 [VolumeDevice devicePath], livenessProbe@10 Probe,
  readinessProbe Probe, startupProbe@22 Probe, lifecycle@12 any, terminationMessagePath
  string, terminationMessagePolicy@20 string, imagePullPolicy@14 string, securityContext
  any, stdin bool, stdinOnce bool, tty bool
EphemeralContainer: !name@0 string, *
ContainerPort: name string, hostPort int, !containerPort int, protocol string, hostIP
  string
EnvVar: !name string, value string, valueFrom any
EnvFromSource: prefix string, configMapRef any, secretRef any
VolumeMount: !name string, readOnly bool, ?recursiveReadOnly@7 string, !mountPath@3
  string, subPath string, ?mountPropagation string, subPathExpr string,
  bindMountOptions@8 [string *]
VolumeDevice: !name string, !devicePath string
Probe: exec@0 ExecAction, httpGet@0 HTTPGetAction, tcpSocket@0 TCPSocketAction, grpc@0
  any, initialDelaySeconds@2 int, timeoutSeconds int, periodSeconds int,
  successThreshold int, failureThreshold int, ?terminationGracePeriodSeconds int
HTTPGetAction: path string, !port intstr, host string, scheme string, httpHeaders [any],
  ?protocol string
TCPSocketAction: !port intstr, host string
ExecAction: command [string]
ResourceRequirements: limits {quantity}, requests {quantity}, claims [any]
Volume: !name string, *
Toleration: key string, operator string, value string, effect string, ?tolerationSeconds
  int
HostAlias: !ip string, hostnames [string]
LocalObjectReference^: name string
PodStatus: observedGeneration@17 int, phase@1 string, conditions [PodCondition type],
  message string, reason string, nominatedNodeName@11 string, hostIP@5 string,
  hostIPs@16 [HostIP ip], podIP@6 string, podIPs@12 [PodIP ip], startTime@7 time,
  initContainerStatuses@10 [ContainerStatus], containerStatuses@8 [ContainerStatus],
  qosClass string, ephemeralContainerStatuses@13 [ContainerStatus], resize string,
  resourceClaimStatuses [any], extendedResourceClaimStatus@18 any, allocatedResources
  {quantity}, resources ResourceRequirements, nodeAllocatableResourceClaimStatuses
  [any], volumeHealth [any]
PodCondition: !type string, observedGeneration@7 int, !status@2 string, !lastProbeTime
  time, !lastTransitionTime time, reason string, message string
PodIP: !ip string
HostIP: !ip string
ContainerStatus: !name string, !state ContainerState, !lastState ContainerState, !ready
  bool, !restartCount int, !image string, !imageID string, containerID string, ?started
  bool, allocatedResources {quantity}, resources ResourceRequirements, volumeMounts
  [any], user any, allocatedResourcesStatus [any], ?stopSignal string
ContainerState: waiting ContainerStateWaiting, running ContainerStateRunning, terminated
  ContainerStateTerminated
ContainerStateRunning: !startedAt time
ContainerStateWaiting: reason string, message string
ContainerStateTerminated: !exitCode int, signal int, reason string, message string,
  !startedAt time, !finishedAt time, containerID string
Service: !metadata ObjectMeta, !spec ServiceSpec, !status ServiceStatus
ServiceSpec: ports [ServicePort port+protocol], selector {string}^, clusterIP string,
  clusterIPs@18 [string], type@4 string, externalIPs [string], sessionAffinity@7 string,
  loadBalancerIP string, loadBalancerSourceRanges [string], externalName string,
  externalTrafficPolicy string, healthCheckNodePort int, publishNotReadyAddresses bool,
  sessionAffinityConfig SessionAffinityConfig, ipFamilies@19 [string],
  ?ipFamilyPolicy@17 string, ?allocateLoadBalancerNodePorts@20 bool, ?loadBalancerClass
  string, ?internalTrafficPolicy string, ?trafficDistribution string
ServicePort: name string, protocol string, ?appProtocol@6 string, !port@3 int,
  targetPort intstr, nodePort int
SessionAffinityConfig: clientIP ClientIPConfig
ClientIPConfig: ?timeoutSeconds int
ServiceStatus: !loadBalancer LoadBalancerStatus, conditions [Condition type]
LoadBalancerStatus: ingress [LoadBalancerIngress]
LoadBalancerIngress: ip string, hostname string, ?ipMode string, ports [PortStatus]
PortStatus: !port int, !protocol string, ?error string
Endpoints: !metadata ObjectMeta, subsets [EndpointSubset]
EndpointSubset: addresses [EndpointAddress], notReadyAddresses [EndpointAddress], ports
  [EndpointPort]
EndpointAddress: !ip string, hostname@3 string, ?nodeName string, targetRef@2
  ObjectReference
EndpointPort: name string, !port int, protocol string, ?appProtocol string
ObjectReference^: kind string, namespace string, name string, uid string, apiVersion
  string, resourceVersion string, fieldPath string
Event: !metadata ObjectMeta, !involvedObject ObjectReference, reason string, message
  string, !source EventSource, !firstTimestamp time, !lastTimestamp time, count int,
  type string, !eventTime microtime, series EventSeries, action string, related
  ObjectReference, !reportingComponent string, !reportingInstance string
EventSource: component string, host string
EventSeries: count int, !lastObservedTime microtime
ConfigMap: !metadata ObjectMeta, ?immutable@4 bool, data@2 {string}, binaryData {bytes}
Secret: !metadata ObjectMeta, ?immutable@5 bool, data@2 {bytes}, stringData@4 {string},
  type@3 string
ServiceAccount: !metadata ObjectMeta, secrets [ObjectReference name], imagePullSecrets
  [LocalObjectReference], ?automountServiceAccountToken bool
EndpointSlice: !metadata ObjectMeta, !addressType@4 string, !endpoints@2 [Endpoint],
  !ports [SliceEndpointPort]
Endpoint: !addresses [string *], !conditions EndpointConditions, ?hostname string,
  targetRef ObjectReference, deprecatedTopology {string}, ?nodeName string, ?zone
  string, hints EndpointHints
EndpointConditions: ?ready bool, ?serving bool, ?terminating bool
EndpointHints: forZones [ForZone], forNodes [ForNode]
ForZone: !name string
ForNode: !name string
SliceEndpointPort: ?name string, ?protocol string, ?port int, ?appProtocol string
Lease: !metadata ObjectMeta, !spec LeaseSpec
LeaseSpec: ?holderIdentity string, ?leaseDurationSeconds int, acquireTime microtime,
  renewTime microtime, ?leaseTransitions int, ?strategy string, ?preferredHolder string
Role: !metadata ObjectMeta, !rules [PolicyRule]
RoleBinding: !metadata ObjectMeta, subjects [Subject], !roleRef RoleRef
ClusterRole: !metadata ObjectMeta, !rules [PolicyRule], aggregationRule AggregationRule
ClusterRoleBinding: !metadata ObjectMeta, subjects [Subject], !roleRef RoleRef
PolicyRule: !verbs [string], apiGroups [string], resources [string], resourceNames
  [string], nonResourceURLs [string]
Subject: !kind string, apiGroup string, !name string, namespace string
RoleRef^: !apiGroup string, !kind string, !name string
AggregationRule: clusterRoleSelectors [LabelSelector]
TokenReview: !metadata ObjectMeta, !spec TokenReviewSpec, !status TokenReviewStatus
TokenReviewSpec: token string, audiences [string]
TokenReviewStatus: authenticated bool, !user UserInfo, audiences@4 [string], error@3
  string
UserInfo: username string, uid string, groups [string], extra {[string]}
SelfSubjectReview: !metadata ObjectMeta, !status SelfSubjectReviewStatus
SelfSubjectReviewStatus: !userInfo UserInfo
TokenRequest: !metadata ObjectMeta, !spec TokenRequestSpec, !status TokenRequestStatus
TokenRequestSpec: !audiences [string], !expirationSeconds@4 int, !boundObjectRef@3 any,
  attestations@5 {[string]}
TokenRequestStatus: !token string, !expirationTimestamp time
SubjectAccessReview: !metadata ObjectMeta, !spec SubjectAccessReviewSpec, !status
  SubjectAccessReviewStatus
SelfSubjectAccessReview: !metadata ObjectMeta, !spec SelfSubjectAccessReviewSpec,
  !status SubjectAccessReviewStatus
LocalSubjectAccessReview: !metadata ObjectMeta, !spec SubjectAccessReviewSpec, !status
  SubjectAccessReviewStatus
SubjectAccessReviewSpec: resourceAttributes ResourceAttributes, nonResourceAttributes
  NonResourceAttributes, user string, groups [string], extra {[string]}, uid string
SelfSubjectAccessReviewSpec: resourceAttributes ResourceAttributes,
  nonResourceAttributes NonResourceAttributes
SubjectAccessReviewStatus: !allowed bool, denied@4 bool, reason@2 string,
  evaluationError string
ResourceAttributes: namespace string, verb string, group string, version string,
  resource string, subresource string, name string, fieldSelector any, labelSelector any
NonResourceAttributes: path string, verb string
SelfSubjectRulesReview: !metadata ObjectMeta, !spec SelfSubjectRulesReviewSpec, !status
  SubjectRulesReviewStatus
SelfSubjectRulesReviewSpec: namespace string
SubjectRulesReviewStatus: !resourceRules [ResourceRule], !nonResourceRules
  [NonResourceRule], !incomplete bool, evaluationError string
ResourceRule: !verbs [string], apiGroups [string], resources [string], resourceNames
  [string]
NonResourceRule: !verbs [string], nonResourceURLs [string]
"""
