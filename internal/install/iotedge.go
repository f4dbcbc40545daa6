package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
)

const (
	// upstream stands for the parent device in the name of an image. The runtime of IoT Edge
	// replaces it.
	upstream = "$upstream"
	// modulePort is the port of the module in the network of the device, as in the reference.
	modulePort = 8080
	// proxyPort is the port at which the API proxy serves clients and the devices below.
	proxyPort = 8000
	// moduleName is the module's name, and its host name in the network of the device.
	moduleName = "connected-registry"
)

// The images of the IoT Edge runtime, without their registry.
const (
	agentImage = "azureiotedge-agent:1.5"
	hubImage   = "azureiotedge-hub:1.5"
	proxyImage = "azureiotedge-api-proxy:1.1"
)

// IoTEdge plans a deployment manifest for `az iot edge set-modules`: the module
// connected-registry, the API proxy, which serves it to clients with the device's certificate,
// and the runtime's own modules. The module itself serves plain HTTP in the network of the
// device. On a nested device, all images come from the parent device, at the port of the
// connection string, and the module trusts the authorities of the host.
func IoTEdge(o Options) (Plan, error) {
	if o.Image == "" {
		return Plan{}, errNoImage
	}
	if o.ExternalURL == "" {
		return Plan{}, errors.New("the address of the API proxy is needed, such as https://edge1.example:8000: " +
			"clients log in there")
	}
	if o.Port == 0 {
		o.Port = proxyPort
	}
	o.HTTP = true
	env := environment{
		"ACR_REGISTRY_CONNECTION_STRING": {o.Connection.Secret()},
		"FERRY_DATA_DIR":                 {imageData},
		"FERRY_LISTEN":                   {fmt.Sprintf(":%d", modulePort)},
	}
	for _, s := range o.settings() {
		env[s.variable()] = value{s.value}
	}
	proxy := environment{
		"NGINX_DEFAULT_PORT":          {fmt.Sprint(o.Port)},
		"CONNECTED_ACR_ROUTE_ADDRESS": {fmt.Sprintf("%s:%d", moduleName, modulePort)},
		"NGINX_CONFIG_ENV_VAR_LIST": {"NGINX_DEFAULT_PORT,CONNECTED_ACR_ROUTE_ADDRESS," +
			"DOCKER_REQUEST_ROUTE_ADDRESS,BLOB_UPLOAD_ROUTE_ADDRESS,IOTEDGE_PARENTHOSTNAME"},
	}
	registry := "mcr.microsoft.com"
	volume := "ferry-data"
	if o.DataDir != "" {
		volume = o.DataDir
	}
	binds := []string{volume + ":" + imageData}
	if o.Nested {
		registry = upstream + ":443"
		if _, port, err := net.SplitHostPort(o.Connection.Host()); err == nil {
			registry = upstream + ":" + port
		}
		binds = append(binds, "/etc/ssl/certs:/etc/ssl/certs:ro",
			"/usr/local/share/ca-certificates:/usr/local/share/ca-certificates:ro")
	}
	m := manifest{}
	m.Content.Agent.Desired = agent{
		SchemaVersion: "1.1",
		Runtime:       runtime{Type: "docker", Settings: runtimeSettings{MinDockerVersion: "v1.25"}},
		SystemModules: systemModules{
			EdgeAgent: module{Type: "docker", Settings: moduleSettings{Image: registry + "/" + agentImage}},
			EdgeHub: module{Type: "docker", Status: "running", RestartPolicy: "always", Settings: moduleSettings{
				Image:         registry + "/" + hubImage,
				CreateOptions: publish("5671", "8883"),
			}},
		},
		Modules: map[string]module{
			moduleName: {
				Type: "docker", Version: "1.0", Status: "running", RestartPolicy: "always", Env: env,
				Settings: moduleSettings{Image: o.Image, CreateOptions: createOptions{
					User: fmt.Sprintf("%d:%d", imageUser, imageUser),
					HostConfig: hostConfig{Binds: binds, ReadonlyRootfs: true, CapDrop: []string{"ALL"},
						SecurityOpt: []string{"no-new-privileges"},
						LogConfig: &logConfig{Type: "json-file",
							Config: map[string]string{"max-size": "10m", "max-file": "3"}}},
				}},
			},
			"IoTEdgeAPIProxy": {
				Type: "docker", Version: "1.0", Status: "running", RestartPolicy: "always", Env: proxy,
				Settings: moduleSettings{Image: registry + "/" + proxyImage,
					CreateOptions: publish(fmt.Sprint(o.Port))},
			},
		},
	}
	m.Content.Hub.Desired = hub{SchemaVersion: "1.1", Store: store{TimeToLiveSecs: 7200},
		Routes: map[string]string{"upstream": "FROM /messages/* INTO $upstream"}}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Files: []File{{Name: "deployment.json", Text: string(text) + "\n", Secret: true}}}
	if o.DataDir != "" {
		p.Next = append(p.Next, "# On the device: the user of the image owns the data.",
			fmt.Sprintf("sudo install -d -m 0700 -o %d -g %d %s", imageUser, imageUser, o.DataDir))
	}
	p.Next = append(p.Next,
		"# HUB and DEVICE are the names of the IoT hub and of the device there.",
		"az iot edge set-modules --hub-name HUB --device-id DEVICE --content "+o.path("deployment.json"),
		"# On the device:",
		"sudo iotedge list",
		"sudo iotedge logs "+moduleName)
	return p, nil
}

// A manifest is a deployment manifest of IoT Edge, schema 1.1.
type manifest struct {
	Content struct {
		Agent struct {
			Desired agent `json:"properties.desired"`
		} `json:"$edgeAgent"`
		Hub struct {
			Desired hub `json:"properties.desired"`
		} `json:"$edgeHub"`
	} `json:"modulesContent"`
}

type agent struct {
	SchemaVersion string            `json:"schemaVersion"`
	Runtime       runtime           `json:"runtime"`
	SystemModules systemModules     `json:"systemModules"`
	Modules       map[string]module `json:"modules"`
}

type runtime struct {
	Type     string          `json:"type"`
	Settings runtimeSettings `json:"settings"`
}

type runtimeSettings struct {
	MinDockerVersion string `json:"minDockerVersion"`
}

type systemModules struct {
	EdgeAgent module `json:"edgeAgent"`
	EdgeHub   module `json:"edgeHub"`
}

type module struct {
	Type          string         `json:"type"`
	Version       string         `json:"version,omitempty"`
	Status        string         `json:"status,omitempty"`
	RestartPolicy string         `json:"restartPolicy,omitempty"`
	Settings      moduleSettings `json:"settings"`
	Env           environment    `json:"env,omitempty"`
}

type environment map[string]value

type value struct {
	Value string `json:"value"`
}

type moduleSettings struct {
	Image         string        `json:"image"`
	CreateOptions createOptions `json:"createOptions"`
}

type hub struct {
	SchemaVersion string            `json:"schemaVersion"`
	Routes        map[string]string `json:"routes"`
	Store         store             `json:"storeAndForwardConfiguration"`
}

type store struct {
	TimeToLiveSecs int `json:"timeToLiveSecs"`
}

// createOptions are Docker's options for a new container. A manifest has them as a string of JSON.
type createOptions struct {
	User       string     `json:"User,omitempty"`
	HostConfig hostConfig `json:"HostConfig"`
}

type hostConfig struct {
	Binds          []string                 `json:"Binds,omitempty"`
	PortBindings   map[string][]portBinding `json:"PortBindings,omitempty"`
	ReadonlyRootfs bool                     `json:"ReadonlyRootfs,omitempty"`
	CapDrop        []string                 `json:"CapDrop,omitempty"`
	SecurityOpt    []string                 `json:"SecurityOpt,omitempty"`
	LogConfig      *logConfig               `json:"LogConfig,omitempty"`
}

type portBinding struct {
	HostPort string `json:"HostPort"`
}

type logConfig struct {
	Type   string            `json:"Type"`
	Config map[string]string `json:"Config"`
}

// publish returns the options of a container whose ports are those of the host.
func publish(ports ...string) createOptions {
	o := createOptions{HostConfig: hostConfig{PortBindings: map[string][]portBinding{}}}
	for _, p := range ports {
		o.HostConfig.PortBindings[p+"/tcp"] = []portBinding{{p}}
	}
	return o
}

// MarshalText returns the options as JSON, which the manifest has as a string.
func (o createOptions) MarshalText() ([]byte, error) {
	type plain createOptions
	return json.Marshal(plain(o))
}
